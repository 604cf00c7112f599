"""Roles: what is said to someone whom MongoDB refuses, and what the table promises."""

import pytest

from qfarm.store.roles import ADMIN, ROLES, WORKER, Person, held_in, holders, not_allowed, role

SECRET = "s3cret"


def said(command: str, database: str = "qfarm") -> str:
    return f'not authorized on {database} to execute command {{ {command}, pwd: "{SECRET}" }}'


def person(*roles: str) -> Person:
    return Person("anna", roles, "qfarm", "db:27017")


COMPUTES = "worker (`qfarm run`, `qfarm launch`)"


@pytest.mark.parametrize(
    ("command", "roles", "what", "needed"),
    [
        ('insert: "fireworks"', ["dashboard"], "write to 'fireworks'", "submitter (submit"),
        ('insert: "records"', ["submitter"], "write to 'records'", COMPUTES),
        ('update: "launches"', ["submitter"], "write to 'launches'", COMPUTES),
        ('findAndModify: "fireworks"', [], "write to 'fireworks'", "submitter (submit"),
        ('find: "fireworks"', [], "read 'fireworks'", "dashboard (status"),
        ('drop: "records"', ["worker"], "drop 'records'", "admin ("),
        ('delete: "records"', ["worker"], "remove from 'records'", "admin ("),
        ('createUser: "x"', ["worker"], "create the user 'x'", "admin ("),
        ("compactStructure: 7", ["worker"], "run 'compactStructure'", "admin ("),
        ('insert: "records"', ["worker"], "write to 'records'", "admin ("),
    ],
)
def test_the_missing_right_and_its_role_are_named(
    command: str, roles: list[str], what: str, needed: str
) -> None:
    error = not_allowed(said(command), person(*roles))
    held = f"role {', '.join(roles)}" if roles else "no role there"
    assert error.what.startswith(f"user anna ({held}) may not {what} in the database 'qfarm'")
    assert error.remedy.startswith(f"You need the role {needed}")
    assert SECRET not in str(error)


def test_words_that_are_not_understood_are_not_repeated() -> None:
    error = not_allowed(f"no way: {SECRET}", person("worker"))
    assert "may not run 'this'" in error.what
    assert SECRET not in str(error)


def test_own_roles_come_before_those_elsewhere() -> None:
    found = [{"role": "root", "db": "admin"}, {"role": "worker", "db": "qfarm"}]
    assert held_in("qfarm", found) == ("worker", "root@admin")
    assert held_in("qfarm", []) == ()


def test_nobody_but_the_administrator_removes() -> None:
    actions = {action for r in ROLES for g in r.grants for action in g.actions}
    assert actions == {"insert", "update"}
    for action in ("remove", "dropCollection", "createIndex", "createUser", "dropDatabase"):
        assert [found.name for found in holders(action, "records")] == [ADMIN]
    worker = role(WORKER)
    assert worker is not None
    assert not worker.allows("update", "attempts")
    assert not worker.allows("update", "records")
    assert role("root") is None


def test_each_grant_says_why() -> None:
    assert all(grant.why for found in ROLES for grant in found.grants)
