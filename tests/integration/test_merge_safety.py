"""Merge: cut off anywhere, beside workers, by whom it may be, and from which files."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from qfarm.errors import StoreError
from qfarm.store import merge, open_store, upkeep, version
from qfarm.store.backup import BackupError
from qfarm.store.merge import index
from qfarm.store.merge.target import Target
from qfarm.store.protocol import Claim
from qfarm.store.roles import NotAllowedError
from support.backups import documents, save
from support.merge import Farms, farms, pair
from support.roles import addresses
from support.work import LEASE, fail, finish, plans, take, work_off, worker

__all__ = ["addresses", "farms", "pair"]


def some_work(farms: Farms) -> Path:
    """Five workflows there, all done; here two of them, one begun, and another one."""
    farms.there.add(plans(5))
    work_off(farms.there)
    farms.here.add(plans(1, first=9))
    work_off(farms.here)
    farms.here.add(plans(2))
    fail(farms.here, take(farms.here))
    return farms.saved()


def results(farms: Farms) -> dict[str, Any]:
    """What the farm here has found out, whatever numbers FireWorks gives it."""
    attempts = {item.pop("_id"): item for item in farms.raw["attempts"].find({}, {"store": 0})}
    records = {item.pop("_id"): item for item in farms.raw["records"].find({}, {"store": 0})}
    states = {i["spec"]["qfarm"]["key"]: i["state"] for i in farms.raw["fireworks"].find()}
    return {"attempts": attempts, "records": records, "states": states}


def test_second_merge_changes_nothing(farms: Farms) -> None:
    path = some_work(farms)
    farms.merge(path)
    before = farms.content()
    merged = farms.merge(path)
    assert (merged.new, merged.known, merged.apart) == (0, 5, {})
    assert farms.content() == before


def test_dry_run_writes_nothing_and_says_the_same(farms: Farms) -> None:
    path = some_work(farms)
    before = documents(farms.raw)
    would = farms.merge(path, dry_run=True)
    assert documents(farms.raw) == before
    assert would.model_copy(update={"dry_run": False}) == farms.merge(path)


class CutOffError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("where", ["before", "after"])
def test_merge_that_is_cut_off_again_and_again_ends(
    farms: Farms, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Within its second transaction each time; a batch is one workflow here."""
    path = some_work(farms)
    monkeypatch.setattr(index, "_WORKFLOWS", 1)
    insert, calls = Target.insert, [0]

    def cut(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 2 and where == "before":
            raise CutOffError
        insert(*arguments)
        if calls[0] == 2:
            raise CutOffError

    monkeypatch.setattr(Target, "insert", cut)
    for done in range(1, 5):
        calls[0] = 0
        with pytest.raises(CutOffError):
            farms.merge(path)
        farms.check()
        assert len(results(farms)["records"]) == 2 + 2 * done
    calls[0] = 0
    farms.merge(path)
    found = results(farms)
    assert set(found["states"].values()) == {"COMPLETED"}
    assert (len(found["records"]), len(found["attempts"])) == (12, 13)


KILLED = """
import os, sys, pathlib
from qfarm.store import merge
from qfarm.store.merge import index
index._WORKFLOWS = 1
uri, database, path = sys.argv[1:]
before, calls = merge._settle, []
def settle(*arguments):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), 9)
    return before(*arguments)
merge._settle = settle
merge.merge(uri, database, [pathlib.Path(path)], lease=1.0)
"""


def test_killed_merge_goes_on(farms: Farms) -> None:
    """Once the lock of the dead process has ended."""
    path = some_work(farms)
    words = [sys.executable, "-c", KILLED, farms.uri, farms.here_name, str(path)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert len(results(farms)["records"]) == 8
    farms.merge(path)
    assert len(results(farms)["records"]) == 12


def test_beside_workers_each_stage_has_one_record(farms: Farms) -> None:
    """Workers claim and commit what the merge is about to adopt; none of them fails."""
    for store in (farms.here, farms.there):
        store.add(plans(40))
    work_off(farms.there)
    path, failures = farms.saved(), []

    def work(name: str) -> None:
        try:
            with open_store(farms.uri, farms.here_name) as store:
                for _ in range(15):
                    claim = store.claim(worker(name), LEASE)
                    if isinstance(claim, Claim):
                        finish(store, claim)
        except Exception as error:  # noqa: BLE001  told to the test
            failures.append(error)

    workers = [Thread(target=work, args=(f"w{number}",)) for number in range(2)]
    for thread in workers:
        thread.start()
    merged = farms.merge(path, check=False)
    for thread in workers:
        thread.join()
    assert failures == []
    assert merged.known == 40
    farms.check()


def test_other_version_is_refused_with_the_way_out(
    farms: Farms, monkeypatch: pytest.MonkeyPatch
) -> None:
    farms.there.add(plans(1))
    path = farms.saved()
    monkeypatch.setattr(version, "CURRENT", version.CURRENT + 1)
    with pytest.raises(BackupError, match="merges version") as caught:
        farms.merge(path)
    assert "qfarm migrate" in caught.value.remedy
    monkeypatch.setattr(version, "CURRENT", version.CURRENT - 2)
    with pytest.raises(BackupError, match="merges version") as caught:
        farms.merge(path)
    assert "Upgrade" in caught.value.remedy


def test_every_file_is_verified_before_anything_is_written(farms: Farms) -> None:
    farms.there.add(plans(1))
    good, bad = farms.saved(), farms.saved()
    data = bytearray(bad.read_bytes())
    data[len(data) // 2] ^= 1
    bad.write_bytes(data)
    before = documents(farms.raw)
    with pytest.raises(BackupError, match="damaged"):
        merge.merge(farms.uri, farms.here_name, [good, bad])
    assert documents(farms.raw) == before


def test_only_the_administrator_may_merge(
    addresses: Mapping[str, str], mongo_uri: str, database: str, farms: Farms, tmp_path: Path
) -> None:
    farms.there.add(plans(1))
    work_off(farms.there)
    save(mongo_uri, farms.there_name, tmp_path / "x")
    for role in ("dashboard", "submitter", "worker"):
        with pytest.raises(NotAllowedError):
            merge.merge(addresses[role], database, [tmp_path / "x"])
    (would,) = merge.merge(addresses["dashboard"], database, [tmp_path / "x"], dry_run=True)
    assert would.new == 1
    assert farms.raw.client[database]["fireworks"].find_one() is None
    (merged,) = merge.merge(addresses["admin"], database, [tmp_path / "x"])
    assert merged.new == 1


def test_command_line(farms: Farms, tmp_path: Path) -> None:
    """Exit code 1, and why, when something was left out; all the rest is merged."""
    some_work(farms)
    key = f"{plans(1, first=4)[0].key}.preopt"
    farms.raw_there["records"].delete_one({"_id": key})
    program = Path(sys.executable).with_name("qfarm")
    where = {"QFARM_MONGO__URI": farms.uri, "QFARM_MONGO__DATABASE": farms.here_name}
    done = subprocess.run(
        [program, "merge", str(farms.saved()), "--json"],
        cwd=tmp_path,
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)[0]["new"]) == (1, 2), done.stderr
    assert "its record is missing" in done.stderr
    farms.check()


def test_process_that_slept_does_not_go_on(farms: Farms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another took its lock: nothing more is written under it."""
    path = some_work(farms)
    before, settle = results(farms), merge._settle

    def sleep(*arguments: Any) -> Any:
        farms.raw["schema"].update_one({"_id": upkeep.LOCK}, {"$set": {"token": "another"}})
        return settle(*arguments)

    monkeypatch.setattr(merge, "_settle", sleep)
    with pytest.raises(StoreError, match=r"lock .* was lost"):
        farms.merge(path)
    assert results(farms) == before


def test_two_farms_at_once_and_the_second_knows_the_first(farms: Farms) -> None:
    farms.there.add(plans(2))
    first = farms.saved()
    work_off(farms.there)
    one, two = merge.merge(farms.uri, farms.here_name, [first, farms.saved()])
    assert (one.new, two.new, two.total(merge.Kind.ADOPTED)) == (2, 0, 4)
    farms.check()
