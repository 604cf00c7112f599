"""A login node on loopback: an sshd of the tests' own, with a key that may only forward ports."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from support.tls import free_port
from support.wait import until

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""

_CLIENT = """
Host login
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


def has_ssh() -> bool:
    return bool(_SSHD and shutil.which("ssh") and shutil.which("ssh-keygen"))


class LoginNode:
    """An sshd that can be stopped and started; `config` is for ``ssh -F``, the host ``login``."""

    def __init__(self, folder: Path, allowed: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "ssh_config"
        self._process: subprocess.Popen[bytes] | None = None
        user = pwd.getpwuid(os.getuid()).pw_name
        for name in ("host_key", "key"):
            _keygen(folder / name)
        self._write("authorized_keys", f"{allowed} {(folder / 'key.pub').read_text()}")
        host = f"[127.0.0.1]:{self.port} {(folder / 'host_key.pub').read_text()}"
        self._write("known_hosts", host)
        self._write("sshd_config", _SERVER.format(port=self.port, folder=folder))
        self._write("ssh_config", _CLIENT.format(port=self.port, folder=folder, user=user))

    def start(self) -> None:
        assert _SSHD is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where its children are confined
        words = [_SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(words, stderr=log, start_new_session=True)
        until(lambda: b"Server listening" in (self.folder / "sshd.log").read_bytes())

    def stop(self) -> None:
        """Kill it with all connections, as when the login node loses its power."""
        if self._process is not None:
            (self.folder / "sshd.log").write_bytes(b"")
            for one in (*psutil.Process(self._process.pid).children(recursive=True), self._process):
                with suppress(psutil.NoSuchProcess):  # each connection is a session of its own
                    one.kill()
            self._process.wait()
            self._process = None

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).touch(0o600)
        (self.folder / name).write_text(text)


@contextmanager
def login_node(folder: Path, allowed: str) -> Iterator[LoginNode]:
    """A login node; `allowed` are the options of the key in ``authorized_keys``."""
    folder.mkdir()
    node = LoginNode(folder, allowed)
    node.start()
    try:
        yield node
    finally:
        node.stop()


def _keygen(path: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(words, check=True, timeout=60)
