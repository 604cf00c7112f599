"""A mongod as `deploy/mongodb` sets it up, on loopback: TLS, own authority, SCRAM, key file."""

import base64
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from qfarm.store.mongod import find_mongod

DEPLOY = Path(__file__).parents[2] / "deploy" / "mongodb"


class Secured(NamedTuple):
    """A mongod and the folder with its files; `port` on 127.0.0.1."""

    folder: Path
    port: int

    @property
    def root(self) -> str:
        """Address that `first_admin.py` wrote."""
        return (self.folder / "root.uri").read_text().strip()


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of `deploy/mongodb`."""
    words = [sys.executable, str(DEPLOY / name), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def configuration(folder: Path, port: int, *, certificates: bool) -> str:
    """The documented file with this test's paths, nothing else changed."""
    text = (DEPLOY / "mongod.conf").read_text()
    changes = {
        "port: 27017": f"port: {port}",
        "127.0.0.1,db.example.org": "127.0.0.1",
        "/etc/qfarm/": f"{folder}/",
        "/var/lib/qfarm-mongo": f"{folder}/data",
        "/var/log/qfarm-mongod.log": f"{folder}/mongod.log",
    }
    if certificates:
        changes["allowConnectionsWithoutCertificates: true"] = (
            "allowConnectionsWithoutCertificates: false"
        )
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def secured(folder: Path, *, certificates: bool = False) -> Iterator[Secured]:
    """Follow the steps of `deploy/mongodb/README.md` up to the first user."""
    port = free_port()
    done = script("certificates.py", folder, "--host", "127.0.0.1", "--client", "anna")
    assert done.returncode == 0, done.stderr
    (folder / "data").mkdir()
    (folder / "keyfile").touch(0o600)
    (folder / "keyfile").write_bytes(base64.encodebytes(secrets.token_bytes(756)))  # as openssl
    text = configuration(folder, port, certificates=certificates)
    (folder / "mongod.conf").write_text(text)
    words = [find_mongod(), "--config", str(folder / "mongod.conf"), "--nounixsocket"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    own = ["--certificate", folder / "client-anna.pem"] if certificates else []
    try:
        done = script(
            "first_admin.py",
            *(f"127.0.0.1:{port}", "--keyfile", folder / "keyfile", "--ca", folder / "ca.pem"),
            *("--write", folder / "root.uri", *own),
        )
        assert done.returncode == 0, done.stderr + (folder / "mongod.log").read_text()[-2000:]
        yield Secured(folder, port)
    finally:
        process.kill()
        process.wait()
