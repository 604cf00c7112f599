"""What `deploy/container/compose.yaml` runs, command by command, without a container engine."""

import base64
import os
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import pytest
import yaml

from qfarm.store.mongod import find_mongod
from support.mongo import has_mongod
from support.needs import need
from support.tls import free_port
from support.wait import until

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())["services"]
BIN = Path(sys.executable).parent
FRAGMENT = "3\n\nO 0 0 0.117\nH 0 0.757 -0.467\nH 0 -0.757 -0.467\n"
XTB = """
name = "xtb"
[[stages]]
name = "single_point"
task = "single-point"
[[stages.levels]]
level = {engine = "tblite", method = "GFN2-xTB", dispersion = "intrinsic", basis = "none"}
"""


class Host(NamedTuple):
    """A folder in place of the containers' root, and the port of its mongod."""

    root: Path
    port: int

    def words(self, command: list[str]) -> list[str]:
        """A command of the file with this host's paths and ports in place of the containers'."""
        return [self.here(word) for word in command]

    def here(self, text: str) -> str:
        changes = {
            "/opt/qfarm/deploy": str(DEPLOY),
            "/etc/qfarm": f"{self.root}/etc/qfarm",
            "/var/lib/": f"{self.root}/var/lib/",
            "--host=0.0.0.0": "--port=0",
            "0.0.0.0": "127.0.0.1",  # nothing of a test listens beyond loopback
            "localhost:27017": f"localhost:{self.port}",
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    def run(self, command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        words = ["env", *self.words(command)]
        given = self.environment | {k: self.here(v) for k, v in environment.items()}
        return subprocess.run(
            words, cwd=self.root, env=given, capture_output=True, text=True, check=False, timeout=90
        )

    @property
    def environment(self) -> dict[str, str]:
        lib = self.root / "var" / "lib"
        kept = {name: value for name, value in os.environ.items() if "QFARM_" not in name}
        return kept | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "MONGO": f"127.0.0.1:{self.port}",
            "KEYS": str(self.root / "etc" / "qfarm"),
            **{name.upper(): str(lib / f"qfarm-{name}") for name in ("admin", "work", "page")},
        }


@contextmanager
def started(host: Host, words: list[str], **options: int) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        words, cwd=host.root, env=host.environment, text=True, stdin=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Keys are made, mongod is up and healthy, users are made."""
    need(has_mongod(), "mongod")
    found = Host(tmp_path_factory.mktemp("containers"), free_port())
    for folder in (
        "etc/qfarm",
        *(f"var/lib/qfarm-{n}" for n in ("mongo", "admin", "work", "page")),
    ):
        (found.root / folder).mkdir(parents=True, mode=0o700)
    succeeds(found, SERVICES["keys"]["command"])
    configured = found.here((DEPLOY / "mongodb" / "mongod.conf").read_text())
    (found.root / "mongod.conf").write_text(configured)  # as volumes put it under those paths
    words = found.words(SERVICES["mongo"]["command"])
    words[1] = f"--config={found.root / 'mongod.conf'}"
    words = [str(find_mongod()), *words[1:], f"--port={found.port}"]
    with started(found, words, stdout=subprocess.DEVNULL):
        health = SERVICES["mongo"]["healthcheck"]["test"][1:]
        until(lambda: found.run(health).returncode == 0, 60)
        succeeds(found, SERVICES["users"]["command"])
        yield found


def succeeds(host: Host, command: list[str], **environment: str) -> str:
    done = host.run(command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tree(host: Host) -> dict[str, bytes]:
    folders = (host.root / "etc", *(host.root / "var/lib").glob("qfarm-[awp]*"))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(host.root)): path.read_bytes() for path in files}


def test_each_step_is_done_once(host: Host) -> None:
    before = tree(host)
    assert set(before) >= {
        *(f"etc/qfarm/{name}" for name in ("ca.pem", "ca-key.pem", "server.pem", "keyfile")),
        *(f"var/lib/qfarm-admin/{name}" for name in ("ca.pem", "root.uri", "boss.uri")),
        *(f"var/lib/qfarm-work/{name}" for name in ("ca.pem", "work.uri")),
        *(f"var/lib/qfarm-page/{name}" for name in ("ca.pem", "web.uri", "password")),
    }
    said = succeeds(host, SERVICES["keys"]["command"])
    said += succeeds(host, SERVICES["users"]["command"])
    assert tree(host) == before
    password = before["var/lib/qfarm-page/password"].decode().strip()
    assert password not in said
    assert "mongodb://" not in said


def test_secrets_are_for_their_owner_alone(host: Host) -> None:
    for name in tree(host):
        mode = stat.S_IMODE((host.root / name).stat().st_mode)
        assert mode & 0o077 == 0 or name.endswith("ca.pem"), name
    for folder in ("work", "page"):
        assert not list((host.root / f"var/lib/qfarm-{folder}").glob("root*"))


def test_the_worker_submits_and_computes(host: Host) -> None:
    farm = host.root / "farm"
    farm.mkdir()
    (farm / "a.xyz").write_text(FRAGMENT)
    (farm / "xtb.toml").write_text(XTB)
    own = SERVICES["work"]["environment"]
    inside = ["-C", str(farm), "qfarm"]
    succeeds(host, [*inside, "submit", "a.xyz", "--protocol", "xtb.toml"], **own)
    assert "1 stages done, 0 failed" in succeeds(host, [*inside, "run", "--plain"], **own)
    assert (
        host.run([*inside, "roles", "user", "eve", "admin", "--write", "x"], **own).returncode == 1
    )


def test_the_page_asks_for_a_password_everywhere(host: Host) -> None:
    words = host.words(SERVICES["page"]["command"])
    with started(host, words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as page:
        assert page.stdout is not None
        url = page.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        password = (host.root / "var/lib/qfarm-page/password").read_text().strip()
        for path in ("/", "/wf/", "/reports/workflows/days/3/fig.png"):
            assert status(url + path) == 401
            assert status(url + path, "qfarm", "wrong") == 401
            assert status(url + path, "other", password) == 401
        assert status(url, "qfarm", password) == 200
        assert password not in " ".join(words)


def status(url: str, user: str = "", password: str = "") -> int:
    request = urllib.request.Request(url)
    if user:
        signed = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {signed}")
    try:
        answer: HTTPResponse
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except HTTPError as error:
        error.close()
        return error.code
