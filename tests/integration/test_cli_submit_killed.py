"""`qfarm submit` killed at any moment: the same command gives what an uninterrupted one gives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from support.farm import qfarm
from support.intake import frame_text

MOMENTS = ("read", "fragments", "workflows", "fireworks", "committed")
"""After which the process dies: while it reads, within the second transaction, and behind it."""

KILLED = """
import os, signal, sys
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from qfarm.cli import main
from qfarm.intake import chunks
from qfarm.intake.spool import Spool
from qfarm.store import adding

moment = sys.argv.pop(1)
chunks.CHUNK = 4
done = {}

def dies_after(owner, name, call, times):
    real = getattr(owner, name)
    def patched(self, *arguments, **options):
        made = real(self, *arguments, **options)
        what = call or self.name
        done[what] = done.get(what, 0) + 1
        if what == moment and done[what] == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    setattr(owner, name, patched)

dies_after(Spool, "put", "read", 7)
dies_after(Collection, "insert_many", None, 2)
dies_after(ClientSession, "commit_transaction", "committed", 2)
main()
"""

Raw = Database[dict[str, Any]]


@pytest.fixture
def client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """Of a server that undoes within seconds what dead clients leave; it does so at 15 s."""
    with MongoClient[dict[str, Any]](mongo_uri) as opened:
        was = opened.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=2)["was"]
        yield opened
        opened.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=was)
        for name in opened.list_database_names():
            if name.startswith("killed_"):
                opened.drop_database(name)


def written(database: Raw) -> dict[str, Any]:
    """All of a farm but ids and times, by workflow key."""
    fireworks: dict[int, Any] = {
        item["fw_id"]: (item["spec"], item["state"], item["name"], item["launches"])
        for item in database["fireworks"].find()
    }
    workflows = list(database["workflows"].find())
    assert sorted(n for one in workflows for n in one["nodes"]) == sorted(fireworks)
    by_key = {
        one["metadata"]["key"]: (
            one["metadata"],
            one["state"],
            one["name"],
            list(one["fw_states"].values()),
            [fireworks[number] for number in sorted(one["nodes"])],
        )
        for one in workflows
    }
    assert len(by_key) == len(workflows)
    contents = {name: list(database[name].find().sort("_id")) for name in ("fragments", "stages")}
    return {"workflows": by_key, **contents}


def environment(uri: str, name: str) -> dict[str, str]:
    return {"QFARM_MONGO__URI": uri, "QFARM_MONGO__DATABASE": name}


def kill(path: Path, uri: str, moment: str) -> subprocess.Popen[bytes]:
    """Begin a submission that dies at this moment."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, moment, "submit", str(path)],
        env=os.environ | environment(uri, f"killed_{moment}"),
        cwd=path.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def submit(path: Path, uri: str, name: str, patched: pytest.MonkeyPatch) -> str:
    for variable, value in environment(uri, name).items():
        patched.setenv(variable, value)
    said = qfarm("submit", path)
    assert said.code == 0, said.err
    return said.err


def test_the_same_command_completes_what_a_kill_cut_off(
    client: MongoClient[dict[str, Any]],
    mongo_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a.xyz"
    frames = (frame_text("class=rare", ("He 0 0 0", f"He 0 0 {3 + i / 100}")) for i in range(13))
    path.write_text("".join(frames))
    monkeypatch.chdir(tmp_path)
    submit(path, mongo_uri, "killed_never", monkeypatch)
    expected = written(client["killed_never"])
    assert len(expected["workflows"]) == 13
    dying = {moment: kill(path, mongo_uri, moment) for moment in MOMENTS}
    for moment, process in dying.items():
        assert process.wait(timeout=60) == -signal.SIGKILL, moment
        there = len(written(client[f"killed_{moment}"])["workflows"])
        assert there == {"read": 0, "committed": 8}.get(moment, 4), moment
        said = submit(path, mongo_uri, f"killed_{moment}", monkeypatch)
        assert f"{13 - there} fragments submitted" in said
        assert written(client[f"killed_{moment}"]) == expected, moment
