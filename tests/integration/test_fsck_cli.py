"""``qfarm fsck`` as its users see it; the rights it needs; cut off in the middle."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from pymongo import MongoClient

from qfarm.store import open_store
from qfarm.store.fsck import INVARIANTS, Options, fsck
from qfarm.store.fsck import settle as settling
from qfarm.store.roles import NotAllowedError
from support.farm import Desk, desk
from support.fsck import LIVES, Document, lived, store, together
from support.roles import addresses
from support.work import plans, take, work_off

__all__ = ["addresses", "desk"]


@pytest.fixture
def client(mongo_uri: str) -> MongoClient[Document]:
    with MongoClient[Document](mongo_uri, tz_aware=True) as opened:
        yield opened


def test_a_whole_farm(desk: Desk) -> None:
    desk.store.add(plans(3))
    work_off(desk.store)
    desk.store.add(plans(1, first=3))
    take(desk.store)
    said = desk.run("fsck", "--deep")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[-1] == "The farm is whole."
    assert any("record there every accepted stage has its record 8 stages" in x for x in lines)
    assert sum(line.startswith("ok ") for line in lines) == len(INVARIANTS)


def test_a_violation_is_named_repaired_and_gone(
    desk: Desk, client: MongoClient[Document], database: str
) -> None:
    desk.store.add(plans(3))
    keys = work_off(desk.store)
    client[database]["records"].delete_one({"_id": keys[-1]})
    fragment_id = plans(3)[2].fragment.id
    said = desk.run("fsck")
    assert said.code == 1
    assert "BROKEN record there every accepted stage has its record 6 stages 1 1" in said.out
    assert f"qfarm show {fragment_id[:11]}" in said.out
    assert said.out.splitlines()[-1] == (
        "1 violation. Next: qfarm backup FILE, then qfarm fsck --repair"
    )
    said = desk.run("fsck", "--repair")
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("1 violation repaired; the farm is whole.")
    assert work_off(desk.store) == [keys[-1]]
    assert desk.run("fsck").code == 0


def test_what_repair_cannot_mend_names_another_way(
    desk: Desk, client: MongoClient[Document], database: str
) -> None:
    desk.store.add(plans(1))
    client[database]["fragments"].delete_many({})
    said = desk.run("fsck")
    assert said.code == 1
    assert said.out.splitlines()[-1] == (
        "2 violations, which --repair cannot mend: see above what to do."
    )
    assert "qfarm merge FILE" in said.out
    assert "qfarm show" not in said.out


def test_json(desk: Desk, client: MongoClient[Document], database: str) -> None:
    desk.store.add(plans(1))
    client[database]["fragments"].delete_many({})
    said = desk.run("fsck", "--repair", "--json")
    assert said.code == 1
    found = json.loads(said.raw)
    assert (found["found"], found["left"], found["repair"]) == (2, 2, True)
    contents = found["invariants"]["contents"]
    assert (contents["left"], contents["per"]) == (2, "stages")
    assert contents["examples"][0]["fragment_id"] == plans(1)[0].fragment.id


def test_who_may(addresses: Mapping[str, str], database: str, mongo_uri: str) -> None:
    with open_store(mongo_uri, database) as opened:
        opened.add(plans(2))
        work_off(opened)
    for name, uri in addresses.items():
        assert fsck(uri, database, Options(deep=True)).found == 0, name
    for name in ("dashboard", "submitter", "worker"):
        with pytest.raises(NotAllowedError, match="may not write"):
            fsck(addresses[name], database, Options(repair=True))
    with MongoClient[Document](mongo_uri) as client:
        client[database]["records"].delete_one({})
    assert fsck(addresses["admin"], database, Options(repair=True)).left == 0


@pytest.mark.parametrize("calls", [0, 2, 5])
def test_cut_off_anywhere(
    calls: int,
    mongo_uri: str,
    database: str,
    client: MongoClient[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a killed repair leaves is either as before or as after; the next one does the rest."""
    with open_store(mongo_uri, database):
        pass
    store(client[database], together([lived(n, LIVES[0]) for n in range(6)]), datetime.now(UTC))
    client[database]["records"].delete_many({})
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    write, left = settling.write, iter(range(calls))

    def killed(*arguments: object) -> None:
        write(*arguments)
        if next(left, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(settling, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        fsck(mongo_uri, database, Options(repair=True))
    monkeypatch.setattr(settling, "write", write)
    report = fsck(mongo_uri, database, Options(repair=True))
    assert report.tallies["record there"].repaired >= 6 - calls
    assert report.left == fsck(mongo_uri, database).found == 0
    with open_store(mongo_uri, database) as opened:
        assert len(work_off(opened)) == 12
