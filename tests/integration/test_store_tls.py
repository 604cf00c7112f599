"""TLS by one's own authority: what `deploy/mongodb` says works, and nothing gets past it."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qfarm.errors import StoreError
from qfarm.store import connection, open_store, users
from support.farm import qfarm
from support.mongo import has_mongod
from support.needs import need
from support.tls import Secured, free_port, script, secured
from support.work import plans, states, work_off

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    need(has_mongod(), "mongod")
    with secured(tmp_path_factory.mktemp("tls")) as found:
        users.apply(found.root, "qfarm")
        yield found


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_ANSWER_MS", 500)


def refusal(uri: str) -> StoreError:
    with pytest.raises(StoreError) as caught, open_store(uri, "qfarm"):
        pass
    assert password(uri) not in str(caught.value)
    return caught.value


def password(uri: str) -> str:
    return uri.split(":")[2].partition("@")[0]


def test_the_documented_steps_lead_to_a_farm(
    mongod: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Administrator, users in files, and the line of work, each under its own role."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QFARM_MONGO__URI_FILE", str(mongod.folder / "root.uri"))
    assert qfarm("roles", "apply").code == 0
    for role in ("submitter", "worker", "dashboard"):
        said = qfarm("roles", "user", role, role, "--write", f"{role}.uri")
        assert said.code == 0, said.err
    addresses = {p.stem: p.read_text().strip() for p in tmp_path.glob("*.uri")}
    with open_store(addresses["submitter"], "qfarm") as store:
        store.add(plans(1))
    with open_store(addresses["worker"], "qfarm") as store:
        assert len(work_off(store)) == 2
    with open_store(addresses["dashboard"], "qfarm") as store:
        assert set(states(store).values()) == {1}
    monkeypatch.delenv("QFARM_MONGO__URI_FILE")
    (tmp_path / "qfarm.toml").write_text('[mongo]\nuri_file = "dashboard.uri"\n')
    assert qfarm("status").code == 0
    assert qfarm("up").code == 0
    assert "stops none" in qfarm("down").out
    assert stat.S_IMODE((tmp_path / ".qfarm" / "my_launchpad.yaml").stat().st_mode) == 0o600


@pytest.mark.usefixtures("hasty")
def test_without_the_authority_nothing_is_sent(mongod: Secured) -> None:
    error = refusal(mongod.root.replace(f"&tlsCAFile={mongod.folder / 'ca.pem'}", ""))
    assert "no authority known here has signed" in error.what
    assert "tlsCAFile=" in error.remedy


@pytest.mark.usefixtures("hasty")
def test_another_authority_is_not_believed(mongod: Secured, tmp_path: Path) -> None:
    assert script("certificates.py", tmp_path).returncode == 0
    error = refusal(mongod.root.replace(str(mongod.folder / "ca.pem"), str(tmp_path / "ca.pem")))
    assert "no authority known here has signed" in error.what


@pytest.mark.usefixtures("hasty")
def test_nothing_goes_in_clear(mongod: Secured) -> None:
    error = refusal(mongod.root.partition("&tls=true")[0])
    assert "asks for TLS" in error.what
    assert "tls=true&tlsCAFile=" in error.remedy


def test_a_wrong_password_and_none(mongod: Secured) -> None:
    given = mongod.root
    assert "Authentication failed" in refusal(given.replace(password(given), "x" * 32)).what
    _, _, rest = given.partition("@")
    with (
        pytest.raises(StoreError, match="requires authentication"),
        open_store(f"mongodb://{rest.replace('authSource=admin&', '')}", "qfarm"),
    ):
        pass


def test_a_file_that_is_not_there(mongod: Secured) -> None:
    error = refusal(mongod.root.replace("ca.pem", "none.pem"))
    assert "none.pem" in error.what
    assert "tlsCAFile" in error.remedy


@pytest.mark.usefixtures("hasty")
def test_tls_to_a_server_without_it(mongo_uri: str, mongod: Secured) -> None:
    error = refusal(f"{mongo_uri}&tls=true&tlsCAFile={mongod.folder / 'ca.pem'}")
    assert "does not speak TLS" in error.what


@pytest.mark.usefixtures("hasty")
def test_nobody_there_is_no_matter_of_tls(mongod: Secured) -> None:
    error = refusal(mongod.root.replace(f":{mongod.port}/", f":{free_port()}/"))
    assert "does not answer" in error.what


@pytest.mark.usefixtures("hasty")
def test_a_server_may_ask_for_certificates_of_clients(tmp_path: Path) -> None:
    need(has_mongod(), "mongod")
    with secured(tmp_path, certificates=True) as found:
        assert users.apply(found.root, "qfarm")
        own = f"&tlsCertificateKeyFile={tmp_path / 'client-anna.pem'}"
        assert own in found.root
        error = refusal(found.root.replace(own, ""))
        assert "show a certificate" in error.what
        assert "tlsCertificateKeyFile=" in error.remedy


def test_certificates_are_renewed_under_the_same_authority(tmp_path: Path) -> None:
    assert script("certificates.py", tmp_path, "--host", "h").returncode == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600}
    again = script("certificates.py", tmp_path, "--host", "h", "--client", "anna")
    assert "server.pem: valid until" in again.stdout
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"server.pem"}
    (tmp_path / "ca.pem").unlink()
    assert "Put ca.pem back" in script("certificates.py", tmp_path, "--host", "h").stderr
    assert script("certificates.py", tmp_path / "x", "--client", "../anna").returncode == 2


def test_the_first_user_is_made_once(mongod: Secured, tmp_path: Path) -> None:
    words = [f"{HERE}:{mongod.port}", "--keyfile", mongod.folder / "keyfile"]
    words += ["--ca", mongod.folder / "ca.pem", "--write"]
    again = script("first_admin.py", *words, tmp_path / "again.uri")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert not (tmp_path / "again.uri").exists()
    (tmp_path / "keyfile").write_bytes(b"\xff\n")
    wrong = [*words[:2], tmp_path / "keyfile", *words[3:], tmp_path / "again.uri"]
    assert script("first_admin.py", *wrong).stderr.startswith("error: ")
    assert (
        "Name another file" in script("first_admin.py", *words, mongod.folder / "root.uri").stderr
    )
