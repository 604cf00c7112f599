"""Unreachable: the driver's words become what happened and what to do."""

import pytest

from qfarm.store.unreachable import unreachable

VERIFY = "SSL handshake failed: h:1: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "

SAID = {
    "nobody": ("h:1: [Errno 111] Connection refused", True, "does not answer"),
    "no such name": ("h:1: [Errno -2] Name or service not known", True, "does not answer"),
    "hung up on TLS": ("connection closed", True, "lets in only those who show a certificate"),
    "hung up in clear": ("connection closed", False, "just stopped, or it asks for TLS"),
    "another authority": (VERIFY + "self-signed certificate in chain", True, "no authority"),
    "unknown authority": (VERIFY + "unable to get local issuer certificate", True, "no authority"),
    "expired": (VERIFY + "certificate has expired (_ssl.c:1016)", True, "has expired"),
    "another address": (
        VERIFY + "IP address mismatch, certificate is not valid for '10.0.0.1'.",
        True,
        "other names of its machine",
    ),
    "another name": (
        VERIFY + "Hostname mismatch, certificate is not valid for 'db'.",
        True,
        "other names of its machine",
    ),
    "no certificate": (
        "SSL handshake failed: h:1: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert "
        "certificate required",
        True,
        "lets in only those who show a certificate",
    ),
    "no TLS there": (
        "SSL handshake failed: h:1: EOF occurred in violation of protocol (_ssl.c:1016)",
        True,
        "does not speak TLS",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_each_cause_is_told_apart(case: str) -> None:
    said, tls, what = SAID[case]
    error = unreachable("h:1", said, tls)
    assert error.what.startswith("MongoDB at h:1 ")
    assert what in error.what
    assert error.remedy
