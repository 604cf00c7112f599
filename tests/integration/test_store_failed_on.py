"""Where a stage last failed is known to fsck, backup and merge, and disturbs none of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from pymongo.database import Database

from qfarm.ladder import Retry
from qfarm.store import backup
from qfarm.store.fleet import Gate, JobNote, NodeNote
from qfarm.store.fsck import Options, fsck
from qfarm.store.protocol import Store
from qfarm.store.wish import Wish
from qfarm_schemas.attempt import Rung
from qfarm_schemas.failure import FailureKind
from support.backups import documents, other, save
from support.lpad import Lpad, check_consistent, launchpad, lpad, raw
from support.merge import Farms, farms, pair
from support.work import LEASE, attempt_of, failed, finish, plans, states, take, work_off, worker

__all__ = ["farms", "launchpad", "lpad", "other", "pair", "raw"]

Raw = Database[dict[str, Any]]

HOST = worker().host
ELSEWHERE = Wish(elsewhere=HOST)


def crash(store: Store) -> str:
    """A failure that the node may be to blame for; the key of the stage."""
    claim = take(store)
    failure = attempt_of(claim, failed(FailureKind.CRASHED))
    store.commit(claim, failure, Retry(Rung()))
    return claim.key


def fill(store: Store) -> None:
    """Something in each collection that launchers share."""
    fleet = store.fleet
    fleet.keep_costs({"tblite": 1.0})  # a crash of mongod may undo it: no backup would hold it
    fleet.take("cpu", worker("launcher"), 60)
    fleet.note(JobNote("job", "cpu"))
    fleet.suspect(NodeNote("c1", datetime.now(UTC) + timedelta(hours=1), "self-test"))
    fleet.ask("cpu", Gate.PAUSED)


def test_fsck_and_fireworks_know_it(
    store: Store, raw: Raw, launchpad: LaunchPad, mongo_uri: str, database: str, lpad: Lpad
) -> None:
    store.add(plans(2))
    crash(store)
    fill(store)
    assert fsck(mongo_uri, database, Options(deep=True)).found == 0
    check_consistent(raw, launchpad)
    lpad("defuse_fws", "-i", "1")
    lpad("reignite_fws", "-i", "1")
    check_consistent(raw, launchpad)
    work_off(store)
    assert fsck(mongo_uri, database, Options(deep=True)).found == 0
    assert raw["fireworks"].count_documents({"failed_on": {"$exists": True}}) == 0


def test_fsck_repairs_do_not_leave_it_behind(
    store: Store, raw: Raw, mongo_uri: str, database: str
) -> None:
    store.add(plans(1))
    crash(store)
    finish(store, take(store))
    spoilt = {"state": "READY", "failed_on": HOST}  # others made it ready again: it has its record
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": spoilt})
    assert fsck(mongo_uri, database, Options(repair=True)).left == 0
    (found,) = raw["fireworks"].find({"fw_id": 1})
    assert found["state"] == "COMPLETED"
    assert "failed_on" not in found


def test_a_backup_holds_it(
    store: Store, raw: Raw, mongo_uri: str, database: str, other: str, tmp_path: Path
) -> None:
    store.add(plans(1))
    crash(store)
    fill(store)
    save(mongo_uri, database, tmp_path / "farm.backup")
    backup.restore(mongo_uri, other, tmp_path / "farm.backup")
    assert documents(raw.client[other]) == documents(raw)
    assert raw.client[other]["fireworks"].distinct("failed_on") == [HOST]


def test_merged_stages_are_tried_anywhere(farms: Farms) -> None:
    """The other farm's nodes are not these."""
    farms.there.add(plans(1))
    crash(farms.there)
    fill(farms.there)
    farms.merge()
    assert farms.raw["fireworks"].count_documents({"failed_on": {"$exists": True}}) == 0
    assert farms.here.fleet.standings() == ()
    assert farms.here.fleet.jobs("cpu") == ()
    assert farms.here.claim(worker(), LEASE, ELSEWHERE) is not None


def test_an_adopted_result_ends_it(farms: Farms) -> None:
    for store in (farms.here, farms.there):
        store.add(plans(1))
    crash(farms.here)
    work_off(farms.there)
    farms.merge()
    assert set(states(farms.here)) == {("preopt", "done"), ("single_point", "done")}
    assert farms.raw["fireworks"].count_documents({"failed_on": {"$exists": True}}) == 0
