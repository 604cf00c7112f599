"""The version of the layout: who is let in, who is told to migrate, and migrations cut off."""

from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure

from qfarm.errors import StoreError
from qfarm.store import migrations, open_store, upkeep, version
from qfarm.store.connection import Connection
from qfarm.store.migrations import Migration, bring
from qfarm.store.protocol import Store
from qfarm.store.upkeep import upkeep as hold
from support.farm import Desk, desk
from support.lpad import raw
from support.work import finish, plans, states, take, worker

__all__ = ["desk", "raw"]

NOW = version.CURRENT

Raw = Database[dict[str, Any]]


@pytest.fixture
def connection(mongo_uri: str, database: str) -> Iterator[Connection]:
    opened = Connection.open(mongo_uri, database)
    yield opened
    opened.close()


def marked(raw: Raw) -> object:
    found = raw["schema"].find_one({"_id": "version"})
    return found and found["version"]


def test_empty_database_gets_the_current_version(store: Store, raw: Raw) -> None:
    assert marked(raw) == version.CURRENT


def test_farm_without_a_mark_is_of_version_1(
    store: Store, raw: Raw, mongo_uri: str, database: str, connection: Connection
) -> None:
    store.add(plans(1))
    raw["schema"].drop()
    with (
        pytest.raises(StoreError, match=rf"version 1; .* version {NOW}") as caught,
        open_store(mongo_uri, database),
    ):
        pass
    assert "qfarm migrate" in caught.value.remedy
    assert marked(raw) == 1


def test_holds_of_version_1_go(raw: Raw, connection: Connection, store: Store) -> None:
    store.add(plans(2))
    raw["fireworks"].create_index("hold.token", sparse=True)
    raw["fireworks"].update_one({"fw_id": 1}, {"$set": {"hold": {"token": "of a dead worker"}}})
    raw["schema"].update_one({}, {"$set": {"version": 1}})
    assert len(bring(connection, migrations.MIGRATIONS, 2)) == 1
    assert marked(raw) == 2
    assert raw["fireworks"].count_documents({"hold": {"$exists": True}}) == 0
    assert "hold.token_1" not in raw["fireworks"].index_information()
    finish(store, take(store))


@pytest.mark.parametrize("before", [1, 2])
def test_older_farms_get_the_index_of_stages(
    raw: Raw, connection: Connection, store: Store, before: int
) -> None:
    store.add(plans(2))
    raw["fireworks"].drop_index("stages")
    raw["fireworks"].create_index(
        ["spec.qfarm.stage", "spec.qfarm.position", "state"], name="counts"
    )
    raw["schema"].update_one({}, {"$set": {"version": before}})
    with pytest.raises(StoreError, match="this qfarm needs version 3"):
        version.check(connection)
    assert len(bring(connection, migrations.MIGRATIONS, 3)) == 3 - before
    assert marked(raw) == 3
    found = raw["fireworks"].index_information()
    assert "counts" not in found
    assert [name for name, _ in found["stages"]["key"]] == [
        *("spec.qfarm.stage", "state", "spec._category", "spec._priority", "fw_id"),
        "spec.qfarm.position",
    ]
    migrations._index_of_stages(connection)  # cut off before its version was written
    assert raw["fireworks"].index_information() == found
    assert states(store) == {("preopt", "ready"): 2, ("single_point", "waiting"): 2}


def test_counts_read_the_index_alone(store: Store, raw: Raw) -> None:
    store.add(plans(50))
    raw.command("profile", 2)
    states(store)
    raw.command("profile", 0)
    (found,) = raw["system.profile"].find({"ns": f"{raw.name}.fireworks"})
    assert (found["keysExamined"], found["docsExamined"]) == (100, 0)


def test_newer_farm_is_refused(raw: Raw, mongo_uri: str, database: str) -> None:
    raw["schema"].insert_one({"_id": "version", "version": version.CURRENT + 1})
    with pytest.raises(StoreError, match="newer qfarm") as caught, open_store(mongo_uri, database):
        pass
    assert "Upgrade" in caught.value.remedy
    assert raw.list_collection_names() == ["schema"]


@pytest.mark.parametrize("bad", ["1", None, 0, 1.5, {}])
def test_mark_changed_by_others(raw: Raw, mongo_uri: str, database: str, bad: object) -> None:
    raw["schema"].insert_one({"_id": "version", "version": bad})
    with pytest.raises(StoreError, match="as the version"), open_store(mongo_uri, database):
        pass


def test_reader_is_let_in_and_writes_nothing(
    store: Store, raw: Raw, mongo_uri: str, database: str
) -> None:
    raw["schema"].drop()
    raw.command("createUser", "reader", pwd="pw", roles=["read"])
    host = mongo_uri.split("@")[1].split("/", maxsplit=1)[0]
    reader = Connection.open(f"mongodb://reader:pw@{host}/{database}?replicaSet=qfarm", database)
    version.check(reader)
    with pytest.raises(OperationFailure):
        reader["schema"].insert_one({})
    reader.close()
    assert marked(raw) is None


def test_opening_costs_one_read(
    store: Store, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    retry = Connection.retry
    monkeypatch.setattr(
        Connection, "retry", lambda self, work: (calls.append(work), retry(self, work))[1]
    )
    version.check(connection)
    assert len(calls) == 1


class Table:
    """Two made-up migrations that say when they ran, and can be cut off in the second."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.cut = False

    @property
    def table(self) -> migrations.Migrations:
        return {NOW: Migration("add a", self._first), NOW + 1: Migration("add b", self._second)}

    def _first(self, connection: Connection) -> None:
        self.ran.append(1)
        connection["fireworks"].update_many({}, {"$set": {"a": 1}})

    def _second(self, connection: Connection) -> None:
        self.ran.append(2)
        if self.cut:
            raise KeyboardInterrupt
        connection["fireworks"].update_many({}, {"$set": {"b": 1}})


def test_migrations_run_once_in_order_and_go_on_after_a_cut(
    store: Store, raw: Raw, connection: Connection
) -> None:
    store.add(plans(1))
    made = Table()
    made.cut = True
    assert bring(connection, made.table, NOW + 2, dry_run=True) == (
        f"version {NOW} -> {NOW + 1}: add a",
        f"version {NOW + 1} -> {NOW + 2}: add b",
    )
    assert (made.ran, marked(raw)) == ([], NOW)
    with pytest.raises(KeyboardInterrupt):
        bring(connection, made.table, NOW + 2)
    assert marked(raw) == NOW + 1
    with pytest.raises(StoreError, match=f"documents of version {NOW + 1}"):
        version.check(connection, NOW + 2)
    made.cut = False
    assert bring(connection, made.table, NOW + 2) == (f"version {NOW + 1} -> {NOW + 2}: add b",)
    assert (made.ran, marked(raw)) == ([1, 2, 2], NOW + 2)
    assert raw["fireworks"].count_documents({"a": 1, "b": 1}) == 2
    assert bring(connection, made.table, NOW + 2) == ()
    version.check(connection, NOW + 2)
    with pytest.raises(StoreError, match="newer"):
        version.check(connection)


def test_no_migration_while_stages_run(store: Store, raw: Raw, connection: Connection) -> None:
    store.add(plans(2))
    claim = take(store, worker())
    made = Table()
    with pytest.raises(StoreError, match="1 stages are under way") as caught:
        bring(connection, made.table, NOW + 2)
    assert "Stop all workers" in caught.value.remedy
    finish(store, claim)

    def meddle(_: Connection) -> None:
        take(store, worker())

    with pytest.raises(StoreError, match="under way"):
        bring(connection, {NOW: Migration("slow", meddle)}, NOW + 1)
    assert (made.ran, marked(raw)) == ([], NOW)


def test_two_cannot_migrate_at_once(store: Store, connection: Connection) -> None:
    store.add(plans(1))
    made, inside, go_on = Table(), Event(), Event()

    def wait(_: Connection) -> None:
        inside.set()
        assert go_on.wait(20)

    slow = Thread(target=bring, args=(connection, {NOW: Migration("slow", wait)}, NOW + 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upkeep", lambda c, what: hold(c, what, 1.0))
        slow.start()
        assert inside.wait(20)
        try:
            with pytest.raises(StoreError, match="locked by `qfarm migrate`"):
                bring(connection, made.table, NOW + 2)
        finally:
            go_on.set()
            slow.join()
    assert made.ran == []


def test_lock_of_a_dead_process_ends(
    connection: Connection, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep._take(connection, "qfarm restore", 0.8)
    with hold(connection, "qfarm migrate") as lock:
        lock.check()
    assert raw["schema"].find_one({"_id": "lock"}) is None


def test_lock_that_is_taken_away(connection: Connection, raw: Raw) -> None:
    with hold(connection, "qfarm migrate", 0.4) as lock:
        raw["schema"].update_one({"_id": "lock"}, {"$set": {"token": "mine"}})
        for _ in range(100):
            if lock._lost:
                break
            Event().wait(0.05)
        with pytest.raises(StoreError, match="took it over"):
            lock.check()
    assert raw["schema"].find_one({"_id": "lock"}) is not None


def test_command(desk: Desk, monkeypatch: pytest.MonkeyPatch, raw: Raw) -> None:
    desk.store.add(plans(1))
    assert "Nothing to migrate" in desk.run("migrate").out
    monkeypatch.setattr(migrations, "MIGRATIONS", Table().table)
    monkeypatch.setattr(version, "CURRENT", NOW + 2)
    said = desk.run("migrate", "--dry-run")
    assert (said.code, said.out.splitlines()[0]) == (
        0,
        f"would do: version {NOW} -> {NOW + 1}: add a",
    )
    assert marked(raw) == NOW
    assert (
        desk.run("migrate").out.splitlines()[-1] == f"done: version {NOW + 1} -> {NOW + 2}: add b"
    )
    assert marked(raw) == NOW + 2
    assert states(desk.store) == {("preopt", "ready"): 1, ("single_point", "waiting"): 1}


def test_each_version_has_its_migration() -> None:
    assert sorted(migrations.MIGRATIONS) == list(range(1, version.CURRENT))
