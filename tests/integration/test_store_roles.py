"""Roles: each does its part of the line, and nothing else, on a real MongoDB with users."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from qfarm.errors import StoreError
from qfarm.ladder import Done
from qfarm.store import open_store, users
from qfarm.store.connection import Connection
from qfarm.store.fleet import Fleet, Gate, JobNote, NodeNote
from qfarm.store.probe import probe
from qfarm.store.protocol import Refusal, Selection, StageState, Store
from qfarm.store.roles import ROLES, NotAllowedError, as_commands, role
from qfarm.store.wish import ANYTHING
from support.farm import qfarm
from support.intake import WATER_ATOMS, frame_text
from support.matrices import with_matrices
from support.roles import PASSWORD, addresses
from support.work import (
    LEASE,
    attempt_of,
    fail,
    plan_of,
    plans,
    record_of,
    states,
    take,
    water,
    worker,
)

__all__ = ["addresses"]

Addresses = Mapping[str, str]
ROOT = {"role": "root", "db": "admin"}
Raw = Database[dict[str, Any]]

COLLECTIONS = (
    *("fireworks", "workflows", "launches", "fw_id_assigner"),
    *("fragments", "stages", "attempts", "records", "arrays", "refusals", "launchers"),
    *("partitions", "jobs", "nodes", "costs"),
)


@pytest.fixture
def raw(addresses: Addresses, database: str) -> Iterator[Callable[[str], Raw]]:
    """The database as the user of a role sees it without qfarm."""
    clients = {name: MongoClient[dict[str, Any]](uri) for name, uri in addresses.items()}
    yield lambda name: clients[name][database]
    for client in clients.values():
        client.close()


def submits(store: Store, first: int) -> None:
    """All that a submitter does, on fragments from `first` on."""
    some = plans(2, first=first)
    store.add(some)
    longer = some[0].stages[0].model_copy(update={"time_limit": 7.0})
    assert store.add([plan_of(some[0].fragment, longer, some[0].stages[1])]).updated == 1
    selected = Selection(fragment_ids=(some[1].fragment.id,))
    assert store.cancel(selected) == 2
    assert store.retry(selected) == 2
    store.fleet.ask("cpu", Gate.PAUSED)


def plant(mongo_uri: str, database: str, fw_id: int) -> None:
    """Put an entry of other hands before all others."""
    spec = {"_tasks": [{"_fw_name": "ScriptTask", "script": ["true"]}], "_priority": 9}
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        entry = {"fw_id": fw_id, "state": "READY", "spec": spec}
        client[database]["fireworks"].insert_one(entry)


def works(store: Store) -> None:
    """All that an account does that computes: a planted entry and two stages must be ready.

    Leaves one record.
    """
    assert isinstance(store.claim(worker(), LEASE), Refusal)
    lost = take(store)
    (taken,) = store.take_over(lambda _: True, worker("reaper"))
    assert taken.key == lost.key
    fail(store, taken)
    claim = take(store)
    assert store.heartbeat(claim, LEASE)
    store.commit(claim, attempt_of(claim), Done(), with_matrices(record_of(claim)))
    store.ask_drain("run-1")
    assert store.draining("run-1")
    launches(store.fleet)


def launches(fleet: Fleet) -> None:
    """All that launchers and their jobs write."""
    token = fleet.take("cpu", worker("launcher"), 60, free=True)
    assert fleet.keep("cpu", token, 60, {"jobs": 1}) is not None
    fleet.refuse("cpu", "")
    fleet.leave("cpu", token, Gate.OPEN)
    job = JobNote("qfarm-cpu-1", "cpu")
    fleet.note(job)
    fleet.begin(job)
    assert fleet.beat(job.name, 1, 0)
    fleet.drain([job.name])
    fleet.end(job.name)
    fleet.suspect(NodeNote("node7", datetime.now(UTC) + timedelta(hours=1), "self-test"))
    fleet.clear("node7")
    fleet.keep_costs({"tblite": 1.0})


def looks(store: Store, fragment_id: str) -> None:
    """All that a dashboard does."""
    assert store.counts()
    assert store.workflow_counts()
    assert store.needs()
    assert store.running() == ()
    assert len(store.refusals()) == 1
    assert list(store.rows(Selection()))
    assert store.resolve(fragment_id[:12]) == fragment_id
    assert store.view(fragment_id).rows
    assert list(store.records(Selection()))
    assert store.busy("local")
    assert [standing.name for standing in store.fleet.standings()] == ["cpu"]
    assert store.fleet.jobs("cpu", ended=True)
    assert store.fleet.suspects() == ()
    assert store.fleet.node_failures(1) == ()
    assert store.fleet.demand("local", ANYTHING, 10, 10).ready
    assert store.fleet.levels()
    assert store.fleet.samples(10)
    assert store.fleet.costs()


def test_each_role_does_its_part_of_the_line(
    mongo_uri: str, addresses: Addresses, database: str, raw: Callable[[str], Raw]
) -> None:
    plant(mongo_uri, database, 10**6)
    with open_store(addresses["submitter"], database) as submitter:
        submits(submitter, 0)
        with raw("dashboard").watch() as stream:
            with open_store(addresses["worker"], database) as computing:
                works(computing)
            assert stream.try_next() is not None
        # Cancelling what runs ends its launch.
        with open_store(addresses["worker"], database) as computing:
            take(computing)
        assert submitter.cancel(Selection(state=StageState.RUNNING)) == 1
        identity = water(0).id
        with open_store(addresses["dashboard"], database) as dashboard:
            looks(dashboard, identity)
            assert states(dashboard) == states(submitter)
        looks(submitter, identity)
    for name in ("submitter", "worker", "admin"):
        assert probe(addresses[name], database).replica_set == "qfarm"


def rights() -> list[tuple[str, str, str]]:
    return [(r.name, g.collection, action) for r in ROLES for g in r.grants for action in g.actions]


def test_there_is_no_right_that_is_not_needed(
    mongo_uri: str, addresses: Addresses, database: str
) -> None:
    """Each right is taken away in turn: then something of the role's part fails, and says what."""
    for number, (name, collection, action) in enumerate(rights()):
        whole = role(name)
        assert whole is not None
        grants = [
            g._replace(
                actions=tuple(a for a in g.actions if (g.collection, a) != (collection, action))
            )
            for g in whole.grants
        ]
        poorer = whole._replace(grants=tuple(g for g in grants if g.actions))
        set_role(mongo_uri, database, poorer)
        reset(mongo_uri, database)
        with open_store(mongo_uri, database) as admin:
            admin.add(plans(3, first=100 * number))
            if name == "worker":
                plant(mongo_uri, database, 10**6)
            if name == "submitter" and collection == "launches":
                take(admin)
        with pytest.raises(NotAllowedError) as caught:
            part(name, addresses[name], database, 100 * number + 50)
        assert f"(role {name}) may not write to {collection!r}" in caught.value.what
        set_role(mongo_uri, database, whole)


def set_role(mongo_uri: str, database: str, found: Any) -> None:
    connection = Connection.open(mongo_uri, database, 10)
    users._write_role(connection, found)
    connection.close()


def reset(mongo_uri: str, database: str) -> None:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        for name in (*COLLECTIONS, "doctor"):
            if name != "fw_id_assigner":
                client[database][name].delete_many({})


def part(name: str, uri: str, database: str, first: int) -> None:
    """All that a role does."""
    with open_store(uri, database) as store:
        if name == "submitter":
            store.cancel(Selection(state=StageState.RUNNING))
            submits(store, first)
        else:
            works(store)
    probe(uri, database)


@pytest.mark.parametrize("name", ["dashboard", "submitter", "worker"])
def test_nobody_removes_drops_or_makes_users(name: str, raw: Callable[[str], Raw]) -> None:
    own = raw(name)
    forbidden: list[Callable[[], object]] = [
        lambda: own.create_collection("mine"),
        lambda: own["mine"].insert_one({}),
        lambda: own.command("createUser", "me", pwd=PASSWORD, roles=["readWrite"]),
        lambda: own.command("updateUser", name, roles=["admin"]),
        lambda: own.command("grantRolesToUser", name, roles=["admin"]),
        lambda: own.command("usersInfo", "admin"),
        lambda: own.client["admin"]["system.users"].find_one({}),
        lambda: own.client["another"]["fireworks"].find_one({}),
        lambda: own.client["another"]["fireworks"].insert_one({}),
        lambda: own.client.drop_database(own.name),
    ]
    for collection in COLLECTIONS:
        forbidden += [
            own[collection].drop,
            lambda c=collection: own[c].delete_many({}),
            lambda c=collection: own[c].create_index("x"),
            lambda c=collection: own[c].drop_indexes(),
            lambda c=collection: own[c].rename("other"),
        ]
    for act in forbidden:
        refused(act)


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(OperationFailure) as caught:
        act()
    assert caught.value.code == 13, caught.value


@pytest.mark.parametrize("name", ["dashboard", "submitter", "worker"])
def test_what_is_not_granted_cannot_be_written(name: str, raw: Callable[[str], Raw]) -> None:
    found, own = role(name), raw(name)
    assert found is not None
    for collection in COLLECTIONS:
        if not found.allows("insert", collection):
            refused(lambda c=collection: own[c].insert_one({}))
        if not found.allows("update", collection):
            refused(lambda c=collection: own[c].update_many({}, {"$set": {"x": 1}}))


def test_the_important_refusals_by_name(raw: Callable[[str], Raw]) -> None:
    """What the table must never come to allow."""
    for name in COLLECTIONS:
        refused(lambda c=name: raw("dashboard")[c].insert_one({}))
        refused(lambda c=name: raw("dashboard")[c].update_one({}, {"$set": {"x": 1}}))
    for name in ("fireworks", "workflows", "fragments", "stages"):
        refused(lambda c=name: raw("worker")[c].insert_one({}))
    for name in ("attempts", "records", "arrays"):
        refused(lambda c=name: raw("worker")[c].update_one({}, {"$set": {"x": 1}}))
        refused(lambda c=name: raw("worker")[c].update_one({}, {"$set": {"x": 1}}, upsert=True))
        refused(lambda c=name: raw("worker")[c].replace_one({}, {"x": 1}))
    for name in ("attempts", "records", "arrays", "refusals"):
        refused(lambda c=name: raw("submitter")[c].insert_one({}))
        refused(lambda c=name: raw("submitter")[c].update_one({}, {"$set": {"x": 1}}))
    refused(lambda: raw("submitter")["fragments"].update_one({}, {"$set": {"x": 1}}))


def test_the_administrator_does_all_in_this_database_alone(
    raw: Callable[[str], Raw], addresses: Addresses, database: str
) -> None:
    assert users.apply(addresses["admin"], database) == tuple(r.name for r in ROLES)
    assert not users.give(addresses["admin"], database, "worker", ["submitter"], PASSWORD)
    with open_store(addresses["worker"], database) as store:
        submits(store, 0)
    own = raw("admin")
    own["records"].drop()
    refused(lambda: own.client["another"]["fireworks"].insert_one({}))
    refused(lambda: own.command("createUser", "x", pwd=PASSWORD, roles=[ROOT]))


def test_a_farm_that_was_not_set_up_is_not_written_to(
    raw: Callable[[str], Raw], addresses: Addresses, database: str
) -> None:
    """Without the unique indexes two could submit or commit the same."""
    raw("admin")["fireworks"].drop_index("claim")  # this one only saves time
    for name in ("dashboard", "submitter", "worker"):
        open_store_once(addresses[name], database)
    raw("admin")["attempts"].drop()
    for name in ("dashboard", "submitter", "worker"):
        with pytest.raises(StoreError, match=r"not set up for a farm.*'attempts'") as caught:
            open_store_once(addresses[name], database)
        assert "qfarm roles apply" in caught.value.remedy
    users.apply(addresses["admin"], database)
    open_store_once(addresses["worker"], database)


def open_store_once(uri: str, database: str) -> None:
    with open_store(uri, database):
        pass


def test_a_user_without_a_role_is_told(mongo_uri: str, database: str, addresses: Addresses) -> None:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client[database].command("createUser", "nobody", pwd=PASSWORD, roles=[])
    with pytest.raises(NotAllowedError, match=r"nobody \(no role there\) may not read") as caught:
        open_store_once(users.address_of(mongo_uri, database, "nobody", PASSWORD), database)
    assert "You need the role dashboard (status, list, show, export)" in caught.value.remedy


def test_a_right_that_is_missing_for_a_moment_is_an_outage(
    mongo_uri: str, addresses: Addresses, database: str
) -> None:
    """A launcher that has run for weeks goes on when an administrator has changed the roles."""
    with open_store(addresses["worker"], database) as store, MongoClient[Any](mongo_uri) as client:
        token = store.fleet.take("cpu", worker(), 60.0)
        client[database].command("revokeRolesFromUser", "worker", roles=["worker"])
        with pytest.raises(StoreError, match="may not write to 'partitions'"):
            store.fleet.keep("cpu", token, 60.0, {})
        client[database].command("grantRolesToUser", "worker", roles=["worker"])
        assert store.fleet.keep("cpu", token, 60.0, {}) is not None


@pytest.fixture
def at(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Use an address by its file, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QFARM_MONGO__DATABASE", database)

    def use(uri: str) -> None:
        file = tmp_path / "address"
        file.touch(0o600)
        file.write_text(f"{uri}\n")
        monkeypatch.setenv("QFARM_MONGO__URI_FILE", str(file))

    return use


def test_commands_say_which_role_is_missing(
    addresses: Addresses, at: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "a.xyz").write_text(frame_text("class=dimer", WATER_ATOMS))
    at(addresses["submitter"])
    assert qfarm("submit", "a.xyz", "--protocol", "demo").code == 0
    at(addresses["dashboard"])
    for command in (["status"], ["list"], ["up", "--replica-set"]):
        said = qfarm(*command)
        assert said.code == 0, said.err
    for command in (
        ["submit", "a.xyz", "--protocol", "open"],
        ["cancel", "--all", "--yes"],
        ["roles", "apply"],
        ["roles", "user", "me", "admin", "--write", "me.uri"],
    ):
        said = qfarm(*command)
        assert said.code == 1, (command, said)
        assert "user dashboard (role dashboard) may not" in said.err
        needed = "admin" if "roles" in command else "submitter"
        assert f"You need the role {needed} (" in said.err
        assert PASSWORD not in said.err
    assert not (tmp_path / "me.uri").exists()
    said = qfarm("doctor", "--json")
    assert "may not write to 'doctor'" in said.out


def test_an_administrator_makes_users_without_seeing_passwords(
    mongo_uri: str, at: Callable[[str], None], tmp_path: Path, addresses: Addresses
) -> None:
    at(addresses["admin"])
    assert "submitter, worker, admin" in qfarm("roles", "apply").out
    said = qfarm("roles", "user", "anna", "submitter", "--write", "anna.uri")
    assert (said.code, said.out) == (0, f"User anna made: submitter of the database {_db()}")
    address = (tmp_path / "anna.uri").read_text()
    assert (tmp_path / "anna.uri").stat().st_mode & 0o777 == 0o600
    assert address.split(":")[2].split("@")[0] not in said.raw + said.err
    at(address)
    assert qfarm("status").code == 0
    at(addresses["admin"])
    (tmp_path / "password").write_text("too short")
    assert "0644" in qfarm("roles", "user", "anna", "worker", "--password-file", "password").err
    (tmp_path / "password").chmod(0o600)
    assert "12" in qfarm("roles", "user", "anna", "worker", "--password-file", "password").err
    assert "no role 'root'" in qfarm("roles", "user", "anna", "root").err
    asked = qfarm("roles", "user", "anna", "worker", "submitter", ask=f"{PASSWORD}\n{PASSWORD}\n")
    assert asked.out.endswith(f"User anna changed: worker, submitter of the database {_db()}")
    assert PASSWORD not in asked.raw + asked.err
    at(address)
    assert "Authentication failed" in qfarm("status").err


def test_a_file_that_cannot_be_written_changes_no_password(
    at: Callable[[str], None], tmp_path: Path, addresses: Addresses
) -> None:
    at(addresses["admin"])
    said = qfarm("roles", "user", "worker", "worker", "--write", "none/worker.uri")
    assert said.code == 1
    assert "none/worker.uri cannot be written" in said.err
    at(addresses["worker"])
    assert qfarm("status").code == 0
    said = qfarm("roles", "user", "worker", "admin", "--write", "worker.uri")  # not allowed to
    assert said.code == 1
    assert not (tmp_path / "worker.uri").exists()


def test_roles_of_other_databases_are_named(
    mongo_uri: str, database: str, at: Callable[[str], None], tmp_path: Path, addresses: Addresses
) -> None:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client[database].command("createUser", "old", pwd=PASSWORD, roles=[ROOT, "worker"])
    at(addresses["admin"])
    said = qfarm("roles", "user", "old", "dashboard", "--write", "old.uri")
    assert said.code == 1
    assert "still holds roles of other databases: root@admin" in said.err
    at((tmp_path / "old.uri").read_text())  # the password is the new one
    assert qfarm("status").code == 0


def _db() -> str:
    import os

    return os.environ["QFARM_MONGO__DATABASE"]


def test_the_table_in_deploy_is_that_of_the_code() -> None:
    file = Path(__file__).parents[2] / "deploy" / "mongodb" / "roles.json"
    assert json.loads(file.read_text()) == as_commands("qfarm")
