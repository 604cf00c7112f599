"""An authority of your own, and certificates for mongod and its clients.

    python certificates.py FOLDER --host db.example.org --host 10.0.0.5
    python certificates.py FOLDER --client anna

The first call makes the authority: FOLDER/ca-key.pem (keep it off the network) and FOLDER/ca.pem
(for everyone). `--host` makes FOLDER/server.pem for a mongod that is reached by these names and
addresses; `localhost` and 127.0.0.1 are always among them. `--client NAME` makes
FOLDER/client-NAME.pem. Calling it again keeps the authority and makes anew what it names;
`--host` must name all names and addresses again. Files with keys are readable for you alone.
"""

import argparse
import ipaddress
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
DAYS = 825
"""Of a server's or client's certificate; some programs take no longer ones."""

ALWAYS = ("localhost", "127.0.0.1")


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def main(arguments: list[str] | None = None) -> None:
    """Make what the command line asks for."""
    asked = _parse(arguments)
    asked.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority(asked.folder)
    if asked.host:
        made = issue(authority, asked.host[0], tuple(dict.fromkeys((*asked.host, *ALWAYS))))
        _write_pair(asked.folder / "server.pem", made)
    for name in asked.client:
        _write_pair(asked.folder / f"client-{name}.pem", issue(authority, name, ()))


def authority() -> Pair:
    """Make an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "qfarm authority")])
    builder = _builder(name, name, key, AUTHORITY_DAYS)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, name: str, hosts: tuple[str, ...]) -> Pair:
    """Sign a new certificate: with hosts for a server, without for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    # MongoDB takes a client whose O and OU are a member's for a member: a client's OU differs.
    unit = "server" if hosts else "client"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "qfarm"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
        ]
    )
    builder = _builder(subject, authority.certificate.subject, key, DAYS)
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if hosts:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)  # members are clients of each other, too
        names = x509.SubjectAlternativeName([_general(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    builder = builder.add_extension(signer, critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the authority is, or is to be")
    parser.add_argument("--host", action="append", default=[], help="name or address of the server")
    parser.add_argument("--client", action="append", default=[], help="name of a client")
    asked = parser.parse_args(arguments)
    strange = [name for name in asked.client if not re.fullmatch(r"[\w.-]+", name)]
    if strange:
        parser.error(f"--client {strange[0]!r}: only letters, digits, '.', '_' and '-'")
    return asked


def _authority(folder: Path) -> Pair:
    """The authority in the folder, made when there is none."""
    key_file, file = folder / "ca-key.pem", folder / "ca.pem"
    if key_file.exists() != file.exists():
        there, lacks = (key_file, file) if key_file.exists() else (file, key_file)
        sys.exit(
            f"error: {there} is there, but {lacks} is not. Put {lacks.name} back to renew; "
            "removing both makes a new authority, and every user needs its ca.pem."
        )
    if key_file.exists():
        key = load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            sys.exit(f"error: {key_file} is no key that this program made")
        return Pair(x509.load_pem_x509_certificate(file.read_bytes()), key)
    made = authority()
    _write(key_file, _key_text(made.key), 0o600)
    _write(file, made.certificate.public_bytes(Encoding.PEM), 0o644)
    _tell(file, made.certificate)
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_pair(path: Path, pair: Pair) -> None:
    text = _key_text(pair.key) + pair.certificate.public_bytes(Encoding.PEM)
    _write(path, text, 0o600)
    _tell(path, pair.certificate)


def _write(path: Path, text: bytes, mode: int) -> None:
    """Write a file, all or nothing, which nobody else can read at any moment."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    new.chmod(mode)
    new.replace(path)


def _tell(path: Path, certificate: x509.Certificate) -> None:
    print(f"{path}: valid until {certificate.not_valid_after_utc:%Y-%m-%d}")


if __name__ == "__main__":
    main()
