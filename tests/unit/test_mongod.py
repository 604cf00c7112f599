import stat
from pathlib import Path

import pytest

from qfarm.errors import StoreError
from qfarm.store import mongod
from qfarm.store.mongod import command_line, explain, find_mongod

HERE = Path("/data/mongo")


def explained(output: str) -> StoreError:
    return explain(output, Path("/bin/mongod"), HERE / "data", 30000, HERE / "mongod.log")


@pytest.mark.parametrize(
    ("output", "what", "remedy"),
    [
        (
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared",
            "libcurl.so.4",
            "apt-get install libcurl4",
        ),
        (
            "mongod: error while loading shared libraries: libssl.so.3: cannot open shared",
            "libssl.so.3",
            "apt-get install libssl3",
        ),
        ("mongod: error while loading shared libraries: libx.so.1: no", "libx.so.1", "libx.so.1"),
        ("mongod: /lib/libc.so.6: version `GLIBC_2.34' not found", "too old", "mongo.mongod"),
        ('"errmsg":"Address already in use"', "port 30000", "mongo.port"),
        ("DBPathInUse: Unable to lock the lock file", "/data/mongo/data", "Stop it"),
        ("No space left on device", "full", "Free some space"),
        ("Wrong mongod version", "another version", "mongo.mongod"),
        ('"reason":"13: Permission denied"', "may not write", "chown"),
        ("first\nlast words", "last words", "/data/mongo/mongod.log"),
        ("", "printed nothing", "/data/mongo/mongod.log"),
    ],
)
def test_failure_is_explained(output: str, what: str, remedy: str) -> None:
    error = explained(output)
    assert what in error.what
    assert remedy in error.remedy


def test_server_is_private() -> None:
    words = command_line(Path("mongod"), HERE / "data", 30000, HERE / "key", HERE / "log")
    assert words[words.index("--bind_ip") + 1] == "127.0.0.1"
    assert "--nounixsocket" in words
    assert "--auth" in words
    assert "enableLocalhostAuthBypass=false" in words


def test_configured_executable_wins(tmp_path: Path) -> None:
    path = tmp_path / "mongod"
    path.touch(stat.S_IRWXU)
    assert find_mongod(str(path)) == path


def test_configured_executable_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "text").touch(stat.S_IRUSR)
    for name in ("absent", "text", "."):
        with pytest.raises(StoreError, match=r"mongo\.mongod"):
            find_mongod(str(tmp_path / name))


def test_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "WHEEL", "no-such-distribution")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError) as caught:
        find_mongod()
    assert "pip install 'qfarm[embedded]'" in caught.value.remedy
    (tmp_path / "mongod").touch(stat.S_IRWXU)
    assert find_mongod() == tmp_path / "mongod"
