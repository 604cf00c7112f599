"""FireWorks beside qfarm: its command line and its Python interface on the same database."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo import MongoClient
from pymongo.database import Database

Lpad = Callable[..., Any]


@pytest.fixture
def launchpad(mongo_uri: str, database: str) -> Iterator[LaunchPad]:
    """FireWorks' own view of the test's database."""
    pad = LaunchPad(host=mongo_uri, name=database, uri_mode=True, strm_lvl="ERROR")
    yield pad
    pad.connection.close()


@pytest.fixture
def raw(mongo_uri: str, database: str) -> Iterator[Database[dict[str, Any]]]:
    """The test's database as MongoDB sees it."""
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        yield client[database]


@pytest.fixture
def lpad(mongo_uri: str, database: str, tmp_path: Path) -> Lpad:
    """The real ``lpad`` program; its output as JSON where it is JSON."""
    file = tmp_path / "launchpad.json"
    file.write_text(json.dumps({"host": mongo_uri, "name": database, "uri_mode": True}))
    program = Path(sys.executable).with_name("lpad")

    def call(*arguments: str) -> Any:
        done = subprocess.run(
            [program, "-l", str(file), *arguments],
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            return done.stdout

    return call


def check_consistent(raw: Database[dict[str, Any]], launchpad: LaunchPad) -> None:
    """FireWorks' redundant states agree: workflow, its fw_states, the fireworks, their launches."""
    for workflow in raw["workflows"].find():
        found = raw["fireworks"].find({"fw_id": {"$in": workflow["nodes"]}})
        fireworks = {item["fw_id"]: item for item in found}
        states = {str(fw_id): item["state"] for fw_id, item in fireworks.items()}
        assert workflow["fw_states"] == states
        assert "locked" not in workflow
        whole = launchpad.get_wf_by_fw_id(workflow["nodes"][0])
        assert whole.state == workflow["state"]
        for fw_id in whole.id_fw:
            assert not whole.refresh(fw_id), "FireWorks would change the state of a firework"
        for item in fireworks.values():
            launches = list(raw["launches"].find({"launch_id": {"$in": item["launches"]}}))
            assert len(launches) == len(item["launches"])
            if item["state"] in {"RUNNING", "COMPLETED"}:
                assert [launch["state"] for launch in launches] == [item["state"]]
