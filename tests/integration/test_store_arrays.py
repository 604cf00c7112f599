"""Large arrays of records on a real MongoDB: stored once, before the record, checked when read."""

import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from qfarm.errors import LeaseLostError
from qfarm.ladder import Done
from qfarm.store import arrays, backup, histories, open_store
from qfarm.store.arrays import ARRAYS, CHUNK
from qfarm.store.codec import UnreadableError, encode
from qfarm.store.connection import Connection
from qfarm.store.protocol import Claim, Selection, Store
from qfarm.store.sweep import SWEPT, put_back, sweep
from qfarm_schemas.record import Record
from support.backups import Raw, other, save
from support.lpad import raw
from support.matrices import matrices, with_matrices
from support.work import attempt_of, plans, record_of, take

__all__ = ["other", "raw"]


@pytest.fixture
def connection(mongo_uri: str, database: str) -> Iterator[Connection]:
    with closing(Connection.open(mongo_uri, database, 5)) as found:
        yield found


def commit(store: Store, claim: Claim, n_basis: int = 200, seed: int = 0) -> Record:
    record = with_matrices(record_of(claim), n_basis, seed)
    store.commit(claim, attempt_of(claim), Done(), record)
    return record


def same(one: Record, two: Record) -> bool:
    return one.model_dump_json() == two.model_dump_json()


def test_a_record_comes_back_to_the_last_bit(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    record = commit(store, take(store))
    (found,) = store.records(Selection())
    assert same(found, record)
    assert same(store.view(record.fragment_id).records[record.key], record)
    document = raw["records"].find_one()
    assert document is not None
    assert len(document["arrays"]) == raw["arrays"].count_documents({}) == 2
    assert "data" not in document["result"]["matrices"]["fock"]


def test_the_next_stage_starts_without_the_matrices(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    record = commit(store, take(store))
    raw["arrays"].delete_many({})
    assert np.array_equal(take(store).start.positions, record.result.positions)


def test_equal_arrays_of_many_records_stand_once(store: Store, raw: Raw) -> None:
    store.add(plans(3))
    for _ in range(3):
        commit(store, take(store))
    assert raw["arrays"].count_documents({}) == 2
    assert len(list(store.records(Selection()))) == 3


def test_a_commit_that_is_repeated_changes_nothing(store: Store, raw: Raw) -> None:
    store.add(plans(1))
    claim = take(store)
    commit(store, claim)
    before = list(raw["arrays"].find())
    commit(store, claim)
    assert list(raw["arrays"].find()) == before


def test_an_upload_goes_on_where_it_was_cut_off(
    connection: Connection, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each chunk in turn; what is left there is an orphan until the commit."""
    document, blobs = arrays.outside({"_id": "k"} | encode(matrices(1100, overlap=None)))
    (reference,) = arrays.references(document)
    assert reference.chunks == 2
    monkeypatch.setattr(arrays, "_SENT", 1)
    whole = list(reference.ids)
    for present in ([], whole[:1], whole[1:], whole):
        raw["arrays"].delete_many({})
        for id_ in present:
            part = int(id_.partition(":")[2])
            data = blobs[0].data[part * CHUNK : (part + 1) * CHUNK]
            raw["arrays"].insert_one({"_id": id_, "data": data})
        assert sorted(arrays.orphans(connection, histories.RECORDS)) == sorted(present)
        arrays.save(connection, blobs)
        assert arrays.fill(connection, document)["fock"]["data"]
    raw["records"].insert_one(document)
    assert not list(arrays.orphans(connection, histories.RECORDS))


def test_two_may_upload_the_same_at_once(connection: Connection, raw: Raw) -> None:
    _, blobs = arrays.outside(encode(matrices()))
    for _ in range(2):  # neither saw that it was there
        arrays.insert_new(connection[ARRAYS], [{"_id": f"{blobs[0].sha256}:0", "data": b"x"}])
    assert raw["arrays"].count_documents({}) == 1
    raw.command("collMod", "arrays", validator={"data": {"$type": "string"}})
    with pytest.raises(BulkWriteError):
        arrays.save(connection, blobs[1:])


def test_a_lost_lease_leaves_orphans_only(store: Store, connection: Connection, raw: Raw) -> None:
    store.add(plans(1))
    late = take(store)
    store.cancel(Selection())
    with pytest.raises(LeaseLostError):
        commit(store, late)
    assert raw["records"].count_documents({}) == 0
    left = list(arrays.orphans(connection, histories.RECORDS))
    assert len(left) == raw["arrays"].count_documents({})


@pytest.mark.parametrize("how", ["missing", "other bytes", "shorter", "no bytes"])
def test_a_damaged_array_is_named(how: str, store: Store, connection: Connection, raw: Raw) -> None:
    store.add(plans(1))
    record = commit(store, take(store))
    document = raw["records"].find_one()
    assert document is not None
    (fock, _) = arrays.references(document)
    one = {"_id": fock.ids[0]}
    data = raw["arrays"].find_one(one)["data"]  # type: ignore[index]
    changed = {"other bytes": data[:-1] + b"?", "shorter": data[:-1], "no bytes": 3}
    if how == "missing":
        raw["arrays"].delete_one(one)
    else:
        raw["arrays"].update_one(one, {"$set": {"data": changed[how]}})
    with pytest.raises(UnreadableError, match=r"'result\.matrices\.fock' of the record") as caught:
        list(store.records(Selection()))
    assert record.key in caught.value.what
    assert "backup" in caught.value.remedy
    lacking = dict(arrays.incomplete(connection, histories.RECORDS))
    assert list(lacking) == ([record.key] if how == "missing" else [])


def test_reading_many_takes_the_memory_of_one(store: Store) -> None:
    store.add(plans(12))
    for seed in range(12):
        commit(store, take(store), 700, seed)
    tracemalloc.start()
    try:
        count = sum(1 for _ in store.records(Selection()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 12
    assert peak < 6 * 2 * 8 * 700**2  # two matrices, some copies; all twelve would be 94 MB


def test_a_backup_brings_the_arrays(
    store: Store, mongo_uri: str, database: str, other: str, raw: Raw, tmp_path: Path
) -> None:
    store.add(plans(1))
    record = commit(store, take(store), 1100)
    manifest = save(mongo_uri, database, tmp_path / "b")
    assert {item.name: item.documents for item in manifest.collections}["arrays"] == 4
    backup.restore(mongo_uri, other, tmp_path / "b")
    with open_store(mongo_uri, other) as again, MongoClient[Any](mongo_uri) as client:
        (found,) = again.records(Selection())
        assert same(found, record)
        assert list(client[other]["arrays"].find()) == list(raw["arrays"].find())


def test_arrays_go_from_farm_to_farm(
    store: Store, connection: Connection, mongo_uri: str, other: str, raw: Raw
) -> None:
    store.add(plans(1))
    commit(store, take(store))
    document = raw["records"].find_one()
    assert document is not None
    with closing(Connection.open(mongo_uri, other, 5)) as target:
        arrays.copy(connection, target, document)
        assert arrays.fill(target, document) == arrays.fill(connection, document)
        raw["arrays"].delete_many({})
        with pytest.raises(UnreadableError):
            arrays.copy(connection, target, document)


def upload(connection: Connection, n_basis: int = 200) -> tuple[dict[str, Any], list[str]]:
    """Arrays without a record: the document for it, and the ids of their chunks."""
    document, blobs = arrays.outside({"_id": "k"} | encode(matrices(n_basis)))
    arrays.save(connection, blobs)
    return document, sorted(id_ for found in arrays.references(document) for id_ in found.ids)


def test_only_what_nobody_uses_is_swept(store: Store, connection: Connection, raw: Raw) -> None:
    store.add(plans(1))
    record = commit(store, take(store), seed=7)
    upload(connection)
    assert sweep(connection, histories.RECORDS, lambda: False) == 2
    assert same(next(store.records(Selection())), record)
    assert raw[SWEPT].count_documents({}) == 0
    upload(connection)
    assert sweep(connection, histories.RECORDS, lambda: True) == 0
    assert raw["arrays"].count_documents({}) == 4


@pytest.mark.parametrize("end", ["commits", "goes on", "dies"])
def test_a_sweep_takes_nothing_from_a_worker_that_found_it_there(
    end: str, connection: Connection, raw: Raw
) -> None:
    """The worker looked before the sweep; its stage runs until the record is there."""
    document, ids = upload(connection)
    asked = iter([False, end == "goes on"])  # it is claimed right after the first look

    def busy() -> bool:
        if end == "commits" and not raw["arrays"].count_documents({}):
            raw["records"].insert_one(document)
        return next(asked, True)

    removed = sweep(connection, histories.RECORDS, busy)
    assert removed == (len(ids) if end == "dies" else 0)
    assert raw["arrays"].count_documents({}) == (0 if end == "dies" else len(ids))
    assert raw[SWEPT].count_documents({}) == 0


def test_a_sweep_that_is_killed_loses_nothing(connection: Connection, raw: Raw) -> None:
    """Killed at each of its commands in turn, while a worker commits."""
    document, ids = upload(connection)
    for last in range(20):
        raw["records"].delete_many({})
        arrays.save(connection, arrays.outside({"_id": "k"} | encode(matrices()))[1])
        dying = Dying(connection, last)
        try:
            sweep(dying, histories.RECORDS, lambda: False)  # type: ignore[arg-type]
        except Dying.Killed:
            raw["records"].insert_one(document)
            put_back(connection)
            assert sorted(item["_id"] for item in raw["arrays"].find()) == ids, last
        else:
            break
    assert last > 5
    assert raw["arrays"].count_documents({}) == 0


class Dying:
    """A connection whose process dies after so many commands."""

    class Killed(BaseException):
        """kill -9."""

    def __init__(self, connection: Connection, last: int) -> None:
        self._connection, self._left = connection, last

    def __getitem__(self, name: str) -> Any:
        return self._connection[name]

    def retry(self, work: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self.Killed
        return self._connection.retry(work)
