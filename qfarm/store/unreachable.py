"""Why a MongoDB cannot be reached: nobody there, or TLS that does not fit. Pure."""

import re
from typing import Final

from qfarm.errors import StoreError

_NO_CERTIFICATE: Final = (
    "lets in only those who show a certificate that its authority has signed",
    "Get one from its administrator (`certificates.py --client`), and add "
    "tlsCertificateKeyFile=/PATH/client.pem to `mongo.uri`",
)

_CAUSES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"certificate has expired|certificate expired",
        "shows a certificate that has expired, or the clock of this machine is wrong",
        "Ask its administrator for a new one (`certificates.py`), or set the clock",
    ),
    (
        r"[Hh]ostname mismatch|IP address mismatch|doesn't match",
        "shows a certificate that was made for other names of its machine",
        "Write one of those names into `mongo.uri`, or ask its administrator for a certificate "
        "that holds this one (`certificates.py --host`)",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "shows a certificate that no authority known here has signed; what answers may not be "
        "the farm's MongoDB, so nothing was sent",
        "Get the file ca.pem from its administrator, and add tlsCAFile=/PATH/ca.pem to `mongo.uri`",
    ),
    (r"(?i)certificate.required|bad certificate|unknown ca\b|peer did not", *_NO_CERTIFICATE),
    (
        r"(?i)SSL handshake failed.*(WRONG_VERSION|record|EOF|reset|closed)",
        "does not speak TLS, but `mongo.uri` asks for it",
        "Leave tls=true and the like out only if it listens on this machine alone; else have its "
        "administrator turn TLS on",
    ),
)
"""Pattern in the driver's message -> what happened, remedy; the first that matches counts."""


_HUNG_UP: Final = re.compile(r"connection closed|Connection reset")

_IN_CLEAR: Final = (
    "hangs up at once: it was just stopped, or it asks for TLS, and `mongo.uri` does not",
    "Try again in a moment; if it stays so, add tls=true&tlsCAFile=/PATH/ca.pem to `mongo.uri`, "
    "with the ca.pem of its administrator",
)


def unreachable(where: str, said: str, tls: bool) -> StoreError:
    """Say why nobody answers.

    Parameters
    ----------
    where : str
        Hosts.
    said : str
        The driver's message.
    tls : bool
        Whether the address asks for TLS.
    """
    for pattern, what, remedy in _CAUSES:
        if re.search(pattern, said):
            return StoreError(f"MongoDB at {where} {what}", remedy)
    if _HUNG_UP.search(said):
        what, remedy = _NO_CERTIFICATE if tls else _IN_CLEAR
        return StoreError(f"MongoDB at {where} {what}", remedy)
    return StoreError(
        f"MongoDB at {where} does not answer",
        "Start it (`qfarm up` starts the private one), or correct `mongo.uri` (host, port, "
        "replicaSet)",
    )
