"""Users and roles in MongoDB: make them and change them, as the farm's administrator."""

import re
import secrets
from collections.abc import Collection, Iterable
from typing import Any, Final
from urllib.parse import quote_plus

from qfarm.errors import StoreError
from qfarm.store import indexes, version
from qfarm.store.connection import Connection, Document
from qfarm.store.probe import PATIENCE
from qfarm.store.roles import ROLES, Role

_MECHANISMS: Final = ("SCRAM-SHA-256",)

_OWN_OPTIONS: Final = frozenset(
    {"authsource", "authmechanism", "tlscertificatekeyfile", "tlscertificatekeyfilepassword"}
)
"""Options of an address that belong to its user, in small letters."""


class RolesElsewhereError(StoreError):
    """All was done, but the user holds roles of other databases, too."""


def apply(uri: str, database: str) -> tuple[str, ...]:
    """Bring roles, indexes and the mark of the version to where they must be; names of the roles.

    Raises
    ------
    UserError
        The server does not answer, the user may not do this, or `qfarm migrate` comes first.
    """
    connection = Connection.open(uri, database, PATIENCE)
    try:
        version.check(connection)
        indexes.ensure(connection)
        for role in ROLES:
            _write_role(connection, role)
    finally:
        connection.close()
    return tuple(role.name for role in ROLES)


def give(uri: str, database: str, user: str, roles: Collection[str], password: str) -> bool:
    """Make a user of the farm's database, or give one new password and roles; whether new.

    Parameters
    ----------
    uri : str
        Address of an administrator.
    database : str
        The farm's: users and roles live there, and reach nothing else.
    user : str
        Whom.
    roles : collection of str
        Names of `ROLES`, in place of those that the user had.
    password : str
        What they sign in with.

    Raises
    ------
    UserError
        The server does not answer, or the administrator is none.
    RolesElsewhereError
        Password and roles are the new ones, but roles of other databases are held besides.
    """
    connection = Connection.open(uri, database, PATIENCE)
    try:
        known = connection.command("usersInfo", user)["users"]
        signs_in = {"pwd": password, "mechanisms": list(_MECHANISMS)}
        if known:
            held = {item["role"] for item in known[0]["roles"] if item["db"] == database}
            _change(connection, "grantRolesToUser", user, roles=set(roles) - held)
            _change(connection, "revokeRolesFromUser", user, roles=held - set(roles))
            connection.command("updateUser", user, **signs_in)  # last: before, the old one is good
            _refuse_elsewhere(database, user, known[0]["roles"])
        else:
            connection.command("createUser", user, roles=sorted(roles), **signs_in)
    finally:
        connection.close()
    return not known


def new_password() -> str:
    """A password of 192 random bits."""
    return secrets.token_urlsafe(24)


def address_of(uri: str, database: str, user: str, password: str) -> str:
    """The address for a user of the farm's database: an administrator's, signed in anew.

    Paths of certificates stay, except that of the administrator's own.
    """
    scheme, _, rest = uri.partition("://")
    hosts, _, tail = rest.rpartition("@")[2].partition("/")
    options = [item for item in re.split("[&;]", tail.partition("?")[2]) if item]
    kept = [item for item in options if item.partition("=")[0].lower() not in _OWN_OPTIONS]
    signed = [f"authSource={quote_plus(database)}", *kept]
    return f"{scheme}://{quote_plus(user)}:{quote_plus(password)}@{hosts}/?{'&'.join(signed)}"


def _refuse_elsewhere(database: str, user: str, held: Iterable[Document]) -> None:
    """Say which roles an administrator of this database alone cannot take away."""
    elsewhere = sorted(f"{item['role']}@{item['db']}" for item in held if item["db"] != database)
    if elsewhere:
        raise RolesElsewhereError(
            f"user {user} has the new password, and the new roles in the database {database!r}, "
            f"but still holds roles of other databases: {', '.join(elsewhere)}",
            "Let an administrator of the whole server (root) take these away by MongoDB's "
            "`revokeRolesFromUser`, or remove the user by `dropUser` and make them again.",
        )


def _write_role(connection: Connection, role: Role) -> None:
    """Make a role, or change what differs: first give, then take, so that work can go on.

    MongoDB's ``updateRole`` does both at once, but asks for rights on all databases.
    """
    database = connection.database.name
    wanted = role.command(database)
    known = connection.command("rolesInfo", role.name, showPrivileges=True)["roles"]
    if not known:
        connection.command("createRole", role.name, **wanted)
        return
    have, want = _rights(known[0]["privileges"], database), _rights(wanted["privileges"], database)
    inherited = {item["role"] for item in known[0]["roles"] if item["db"] == database}
    _change(connection, "grantRolesToRole", role.name, roles=set(role.inherits) - inherited)
    _change(connection, "grantPrivilegesToRole", role.name, privileges=want - have)
    _change(connection, "revokePrivilegesFromRole", role.name, privileges=have - want)
    _change(connection, "revokeRolesFromRole", role.name, roles=inherited - set(role.inherits))


def _rights(privileges: Iterable[Document], database: str) -> set[tuple[str, str, str]]:
    """Database, collection and action of each right; on a cluster there are none of ours."""
    return {
        (item["resource"].get("db", database), item["resource"].get("collection", ""), action)
        for item in privileges
        for action in item["actions"]
    }


def _change(connection: Connection, command: str, name: str, **fields: Collection[Any]) -> None:
    for field, items in fields.items():
        if items:
            listed = [_listed(item) for item in sorted(items)]
            connection.command(command, name, **{field: listed})


def _listed(item: Any) -> Any:
    """A role by its name, or a right as MongoDB writes it."""
    if isinstance(item, str):
        return item
    database, collection, action = item
    return {"resource": {"db": database, "collection": collection}, "actions": [action]}
