"""Every way to spoil a farm: one change each, and the invariant that it violates."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from random import Random
from typing import Any

from bson import ObjectId

from qfarm.store.codec import encode
from qfarm.store.fsck.model import Raw
from qfarm_schemas.failure import FailureKind
from support.fsck import NOW, Document, done_farm
from support.work import failed

Spoil = Callable[[Raw, Random], bool]
"""Changes one thing; False when the farm has nothing of the kind."""


def _one(random: Random, found: list[Document]) -> Document | None:
    return random.choice(found) if found else None


def _in(raw: Raw, *states: str) -> list[Document]:
    return [item for item in raw["fireworks"] if item["state"] in states]


def change(collection: str, pick: Callable[[Document], bool], **fields: Any) -> Spoil:
    """Set fields (``__`` for a dot) of one document; a value may be a function of it."""

    def spoil(raw: Raw, random: Random) -> bool:
        item = _one(random, [one for one in raw[collection] if pick(one)])
        if item is None:
            return False
        for name, value in fields.items():
            *path, last = name.split("__")
            inner = item
            for step in path:
                inner = inner[step]
            inner[last] = value(item) if callable(value) else value
        return True

    return spoil


def drop(collection: str, pick: Callable[[Document], bool] = lambda _: True) -> Spoil:
    """Remove one document."""

    def spoil(raw: Raw, random: Random) -> bool:
        item = _one(random, [one for one in raw[collection] if pick(one)])
        if item is not None:
            raw[collection].remove(item)
        return item is not None

    return spoil


def state(*states: str) -> Callable[[Document], bool]:
    return lambda item: item["state"] in states


def succeeded(item: Document) -> bool:
    return bool(item["outcome"]["status"] == "success")


def without(name: str, *states: str) -> Spoil:
    """Remove a field of a firework."""

    def spoil(raw: Raw, random: Random) -> bool:
        item = _one(random, [one for one in _in(raw, *states) if name in one])
        if item is not None:
            del item[name]
        return item is not None

    return spoil


def gap(raw: Raw, random: Random) -> bool:
    """Remove a failed attempt that is not the last."""
    last = {item["key"]: item["number"] for item in raw["attempts"]}
    found = [i for i in raw["attempts"] if i["number"] < last[i["key"]] and not succeeded(i)]
    item = _one(random, found)
    if item is not None:
        raw["attempts"].remove(item)
    return item is not None


def second_success(raw: Raw, random: Random) -> bool:
    item = _one(random, list(filter(succeeded, raw["attempts"])))
    if item is None:
        return False
    number = item["number"] + 1
    twin = deepcopy(item) | {"number": number, "_id": f"{item['key']}:{number}"}
    raw["attempts"].append(twin)
    return True


def foreign_record(raw: Raw, random: Random) -> bool:
    """A record at a stage that nobody has computed."""
    item = _one(random, _in(raw, "READY", "WAITING", "FIZZLED", "DEFUSED"))
    if item is None:
        return False
    donor = deepcopy(done_farm()["records"][0])
    key = item["spec"]["qfarm"]["key"]
    donor |= {"_id": key, "key": key}
    donor["store"] |= {"workflow": item["spec"]["qfarm"]["workflow"], "fw_id": item["fw_id"]}
    raw["records"].append(donor)
    return True


def foreign_launch(raw: Raw, random: Random) -> bool:
    """A launch that nobody lists."""
    item = _one(random, raw["fireworks"])
    assert item is not None
    number = max((one["launch_id"] for one in raw["launches"]), default=0) + 1
    donor = deepcopy(done_farm()["launches"][0]) | {"_id": ObjectId(), "launch_id": number}
    raw["launches"].append(donor | {"fw_id": item["fw_id"], "state": "FIZZLED"})
    return True


def twin(raw: Raw, random: Random) -> bool:
    """A second firework of a stage, as it may come without the unique index."""
    item = _one(random, raw["fireworks"])
    assert item is not None
    ids = [one["fw_id"] for one in raw["fireworks"]]
    state_ = {"state": "WAITING", "launches": [], "archived_launches": [], "fw_id": max(ids) + 1}
    copy = deepcopy(item) | state_ | {"_id": ObjectId()}
    copy.pop("lease", None)
    raw["fireworks"].append(copy)
    return True


def _any(_: Document) -> bool:
    return True


_HOUR_AGO = NOW - timedelta(hours=1)


def _listed(item: Document) -> bool:
    return bool(item["launches"] or item["archived_launches"])


SPOILS: dict[str, tuple[str, Spoil]] = {
    "workflow removed": ("one workflow", drop("workflows")),
    "firework removed": (
        "all stages",
        drop("fireworks", lambda i: len(i["spec"]["qfarm"]["stage_ids"]) > 1),
    ),
    "workflow renamed": ("one workflow", change("workflows", _any, metadata__key="w" + 64 * "0")),
    "node removed": (
        "links",
        change("workflows", lambda w: len(w["nodes"]) > 1, nodes=lambda w: w["nodes"][1:]),
    ),
    "links removed": ("links", change("workflows", lambda w: len(w["nodes"]) > 1, links={})),
    "strange state": ("state", change("fireworks", _any, state="CONFUSED")),
    "state is a number": ("state", change("fireworks", _any, state=7)),
    "lease over": ("lease", change("fireworks", state("RUNNING"), lease__expires=_HOUR_AGO)),
    "lease removed": ("lease", without("lease", "RUNNING")),
    "lease broken": ("lease", change("fireworks", state("RUNNING"), lease__token=5)),
    "reserved": ("lease", change("fireworks", state("READY"), state="RESERVED")),
    "offline": ("lease", change("fireworks", state("READY"), state="OFFLINE")),
    "success removed": ("one success", drop("attempts", succeeded)),
    "second success": ("one success", second_success),
    "success turned": (
        "one success",
        change("attempts", succeeded, outcome=encode(failed(FailureKind.CRASHED))),
    ),
    "record names another": (
        "one success",
        change("records", _any, provenance__attempt=9),
    ),
    "attempt removed": ("attempt numbers", gap),
    "record removed": ("record there", drop("records")),
    "done without all": ("record there", change("fireworks", state("READY"), state="COMPLETED")),
    "done made ready": ("record accepted", change("fireworks", state("COMPLETED"), state="READY")),
    "done made failed": (
        "record accepted",
        change("fireworks", state("COMPLETED"), state="FIZZLED", failure={"reason": "x"}),
    ),
    "done cancelled": ("record accepted", change("fireworks", state("COMPLETED"), state="DEFUSED")),
    "done made running": (
        "record accepted",
        change("fireworks", state("COMPLETED"), state="RUNNING"),
    ),
    "record planted": ("record accepted", foreign_record),
    "record of another": ("record in place", change("records", _any, store__fw_id=0)),
    "record homeless": ("record in place", change("records", _any, store=None)),
    "attempts miscounted": (
        "attempt count",
        change("fireworks", _any, spec__qfarm__attempts=17),
    ),
    "since too high": ("attempt count", change("fireworks", _any, spec__qfarm__since=17)),
    "lease kept": (
        "old lease",
        change("fireworks", state("COMPLETED", "READY", "FIZZLED"), lease={"token": "x"}),
    ),
    "ready too early": ("order", change("fireworks", state("WAITING"), state="READY")),
    "waits for nothing": ("order", change("fireworks", state("READY"), state="WAITING")),
    "reason removed": ("reason", without("failure", "FIZZLED")),
    "reason empty": ("reason", change("fireworks", state("FIZZLED"), failure={"reason": ""})),
    "launch of ready": (
        "launch state",
        change(
            "fireworks",
            lambda i: i["state"] == "READY" and i["archived_launches"],
            launches=lambda i: i["archived_launches"][-1:],
            archived_launches=lambda i: i["archived_launches"][:-1],
        ),
    ),
    "launch of done failed": (
        "launch state",
        change("launches", state("COMPLETED"), state="FIZZLED"),
    ),
    "launch removed": ("launch list", drop("launches")),
    "launch planted": ("launch list", foreign_launch),
    "launches forgotten": (
        "launch list",
        change("fireworks", _listed, launches=[], archived_launches=[]),
    ),
    "launch still runs": ("launch ended", change("launches", state("FIZZLED"), state="RUNNING")),
    "workflow state": ("workflow state", change("workflows", _any, state="RESERVED")),
    "fw_states": ("workflow state", change("workflows", _any, fw_states={})),
    "locked": ("lock", change("workflows", _any, locked=True)),
    "twin": ("all stages", twin),
}
"""Name -> the invariant that is violated, and how."""

BESIDE_INDEXES = {name: spoil for name, spoil in SPOILS.items() if name != "twin"}
"""Those that MongoDB's unique indexes let pass."""
