"""Roles: who may do what in a farm's database, and what one is told who may not. Pure.

All roles read; they differ in what they write. Nobody but the administrator removes, drops, makes
indexes or touches users. Every privilege says which operation needs it; the tests run the whole
line as each user, and see that what is not listed is refused.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from qfarm.errors import StoreError

SUBMITTER: Final = "submitter"
WORKER: Final = "worker"
DASHBOARD: Final = "dashboard"
ADMIN: Final = "admin"


class Grant(NamedTuple):
    """Actions on one collection.

    Attributes
    ----------
    collection : str
        Name.
    actions : tuple of str
        MongoDB's names of them.
    why : str
        The operation that needs them.
    """

    collection: str
    actions: tuple[str, ...]
    why: str


class Role(NamedTuple):
    """A role of the farm's database.

    Attributes
    ----------
    name : str
        Name, in the farm's own database.
    purpose : str
        Who is to have it.
    brings : str
        Commands that it is needed for, in few words.
    inherits : tuple of str
        MongoDB's own roles that it contains.
    grants : tuple of Grant
        What it may write.
    """

    name: str
    purpose: str
    brings: str
    inherits: tuple[str, ...]
    grants: tuple[Grant, ...]

    def allows(self, action: str, collection: str) -> bool:
        """Whether a holder may do this."""
        if any(action in _BUILT_IN[name] or "*" in _BUILT_IN[name] for name in self.inherits):
            return True
        return any(g.collection == collection and action in g.actions for g in self.grants)

    def command(self, database: str) -> dict[str, Any]:
        """Fields of MongoDB's ``createRole`` and ``updateRole``."""
        privileges = [
            {"resource": {"db": database, "collection": g.collection}, "actions": list(g.actions)}
            for g in self.grants
        ]
        return {"privileges": privileges, "roles": list(self.inherits)}


_BUILT_IN: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "read": frozenset(
            {"find", "listIndexes", "listCollections", "changeStream", "collStats", "dbStats"}
        ),
        "dbOwner": frozenset({"*"}),
    }
)
"""Of MongoDB's own roles, on the one database, what matters here."""

_INSERT: Final = ("insert",)
_UPDATE: Final = ("update",)
_UPSERT: Final = ("insert", "update")

_DOCTOR: Final = Grant("doctor", _UPSERT, "`qfarm doctor` writes one note and reads it back")

ROLES: Final = (
    Role(
        DASHBOARD,
        "looks: status, list, show, export, change streams; web pages",
        "status, list, show, export",
        ("read",),
        (),
    ),
    Role(
        SUBMITTER,
        "people: submit, retry, cancel, pause, and all that a dashboard may",
        "submit, retry, cancel, launcher pause",
        ("read",),
        (
            Grant("fragments", _INSERT, "submit: stored once under the hash of their content"),
            Grant("stages", _INSERT, "submit: likewise"),
            Grant("fw_id_assigner", _UPDATE, "submit takes numbers of fireworks"),
            Grant("workflows", _UPSERT, "submit inserts; retry and cancel write the state"),
            Grant("fireworks", _UPSERT, "submit inserts; retry, cancel and new limits update"),
            Grant("launches", _UPSERT, "cancel ends the launch of an attempt under way"),
            Grant("partitions", _UPSERT, "pause, resume, drain and stop are asked for there"),
            _DOCTOR,
        ),
    ),
    Role(
        WORKER,
        "accounts that compute: `qfarm run` and `qfarm launch`, their workers and reaper",
        "`qfarm run`, `qfarm launch`",
        ("read",),
        (
            Grant("fireworks", _UPDATE, "claim, sign of life, commit, refusal, take-over"),
            Grant("workflows", _UPDATE, "their state follows"),
            Grant("fw_id_assigner", _UPDATE, "a claim takes the number of its launch"),
            Grant("launches", _UPSERT, "a claim writes its launch, a commit ends it"),
            Grant("attempts", _INSERT, "commit; what is committed cannot be changed"),
            Grant("records", _INSERT, "commit; an accepted record cannot be changed"),
            Grant("arrays", _INSERT, "commit: large arrays, under the hash of their content"),
            Grant("refusals", _INSERT, "notes entries that are not qfarm's own"),
            Grant("launchers", _UPSERT, "Ctrl-C asks the workers of a launcher to stop"),
            Grant("partitions", _UPSERT, "`qfarm launch` keeps its lease and says what it sees"),
            Grant("jobs", _UPSERT, "launchers and their batch jobs say how these stand"),
            Grant("nodes", _UPSERT, "a launcher leaves nodes alone that fail everything"),
            Grant("costs", _UPSERT, "a launcher keeps what it learnt, for the workers"),
            _DOCTOR,
        ),
    ),
    Role(
        ADMIN,
        "whoever looks after the farm: indexes, users, roles, backups",
        "roles, users, restore, merge, fsck --repair",
        ("dbOwner",),
        (),
    ),
)
"""Least rights first."""


class NotAllowedError(StoreError):
    """The user's role does not allow what was asked for; waiting helps while one changes roles."""


class Person(NamedTuple):
    """Who is signed in, and where.

    Attributes
    ----------
    name : str
        User.
    roles : tuple of str
        Held roles.
    database : str
        The farm's.
    where : str
        Hosts.
    """

    name: str
    roles: tuple[str, ...]
    database: str
    where: str


def role(name: str) -> Role | None:
    """The role of a name."""
    return next((found for found in ROLES if found.name == name), None)


def holders(action: str, collection: str) -> tuple[Role, ...]:
    """Roles that allow an action, without the administrator's unless only that one does."""
    able = [found for found in ROLES if found.allows(action, collection)]
    return tuple(found for found in able if found.name != ADMIN) or (ROLES[-1],)


def not_allowed(said: str, person: Person) -> NotAllowedError:
    """Say which right is missing, and which role brings it.

    Parameters
    ----------
    said : str
        What MongoDB said: ``not authorized on DB to execute command { update: "fireworks", ...``.
        Only the command's name and collection are repeated, never its values.
    person : Person
        Whom it refused.
    """
    command, collection = _asked(said)
    action, words = _COMMANDS.get(command, (command, f"run {command!r} on"))
    what = f"{words} {collection!r}" if collection else f"run {command!r}"
    others = [found for found in holders(action, collection) if found.name not in person.roles]
    needed = others or [ROLES[-1]]  # one who holds a role may have an old form of it
    listed = " or ".join(f"{found.name} ({found.brings})" for found in needed)
    held = f"role {', '.join(person.roles)}" if person.roles else "no role there"
    return NotAllowedError(
        f"user {person.name or '(none)'} ({held}) may not {what} in the database "
        f"{person.database!r} at {person.where}",
        f"You need the role {listed}: use the address (`mongo.uri_file`) of a user who has it, or "
        "ask the farm's administrator, who runs `qfarm roles apply` after an update of qfarm and "
        "makes users by `qfarm roles user NAME ROLE`.",
    )


def as_commands(database: str) -> list[dict[str, Any]]:
    """The ``createRole`` commands of a database, for administrators with tools of their own."""
    return [{"createRole": found.name, **found.command(database)} for found in ROLES]


def held_in(database: str, found: Collection[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of roles as ``connectionStatus`` lists them, best known ones first."""
    return tuple(dict.fromkeys(_named(database, found)))


def _named(database: str, found: Collection[Mapping[str, Any]]) -> Iterator[str]:
    own = {str(item.get("role")) for item in found if item.get("db") == database}
    known = {known.name for known in ROLES}
    yield from sorted(own & known) or sorted(own)
    yield from (f"{x.get('role')}@{x.get('db')}" for x in found if x.get("db") != database)


def _asked(said: str) -> tuple[str, str]:
    """Command and collection in MongoDB's message."""
    match = _REFUSED.search(said)
    return (match["command"], match["collection"] or "") if match else ("this", "")


_REFUSED: Final = re.compile(
    r'to execute command \{ (?P<command>\w+): (?:"(?P<collection>[^"]*)")?',
)

_COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "insert": ("insert", "write to"),
        "update": ("update", "write to"),
        "findAndModify": ("update", "write to"),
        "findandmodify": ("update", "write to"),
        "delete": ("remove", "remove from"),
        "find": ("find", "read"),
        "aggregate": ("find", "read"),
        "distinct": ("find", "read"),
        "count": ("find", "read"),
        "listIndexes": ("listIndexes", "list the indexes of"),
        "createIndexes": ("createIndex", "make indexes in"),
        "dropIndexes": ("dropIndex", "drop indexes of"),
        "create": ("createCollection", "create"),
        "drop": ("dropCollection", "drop"),
        "createUser": ("createUser", "create the user"),
        "updateUser": ("changePassword", "change the user"),
        "usersInfo": ("viewUser", "look at the user"),
        "rolesInfo": ("viewRole", "look at the role"),
        "createRole": ("createRole", "create the role"),
        "grantRolesToUser": ("grantRole", "change the user"),
        "revokeRolesFromUser": ("revokeRole", "change the user"),
        "grantRolesToRole": ("grantRole", "change the role"),
        "grantPrivilegesToRole": ("grantRole", "change the role"),
        "revokePrivilegesFromRole": ("revokeRole", "change the role"),
        "revokeRolesFromRole": ("revokeRole", "change the role"),
    }
)
"""MongoDB's command -> the action that allows it, and words for it."""
