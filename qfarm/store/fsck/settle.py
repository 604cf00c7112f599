"""Settle suspicions: read whole workflows in one transaction, find again, and cure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple

from pymongo.errors import BulkWriteError, DuplicateKeyError

from qfarm.store.connection import Connection, Transaction
from qfarm.store.fsck import pages
from qfarm.store.fsck.cure import check, cure
from qfarm.store.fsck.deep import Deep
from qfarm.store.fsck.farm import COUNTERS
from qfarm.store.fsck.model import Facts, Finding, Group, Raw, grouped
from qfarm.store.fsck.tools import Tools
from qfarm.store.fsck.write import write

AT_ONCE: Final = 25
"""Workflows settled in one transaction; few, because workers commit to them meanwhile."""

_DUPLICATE: Final = 11000

Signs = frozenset[tuple[str, str, str]]
"""Of findings that must stay without a sign of life: invariant, stage and sign."""


class Suspect(NamedTuple):
    """A workflow that looks wrong, or did."""

    key: str
    fw_ids: frozenset[int]
    signs: Signs = frozenset()


@dataclass
class Settled:
    """What became of a workflow."""

    suspect: Suspect
    fragment_id: str = ""
    cured: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)
    waits: Signs = frozenset()  # a sign of life must be waited for; nothing was changed


@dataclass(frozen=True)
class Settler:
    """Settles suspicions on one database.

    Attributes
    ----------
    connection : Connection
        The database.
    deep : Deep
        Opens fragments and stages.
    grace : timedelta
        How long an ended lease may wait for the reaper.
    repair : bool
        Whether to cure what is found.
    """

    connection: Connection
    deep: Deep
    grace: timedelta
    repair: bool

    def settle(self, suspects: Sequence[Suspect], fragments: bool = False) -> Iterator[Settled]:
        """Look again, in transactions of a few workflows, and cure.

        A suspect with signs has been watched: those of its findings count that have not changed.
        With `fragments`, all that is looked at is whether the fragments are there.
        """
        for start in range(0, len(suspects), AT_ONCE):
            yield from self._settle(suspects[start : start + AT_ONCE], fragments)

    def _settle(self, suspects: Sequence[Suspect], fragments: bool) -> list[Settled]:
        try:
            return self.connection.transact(lambda t: self._one(t, suspects, fragments))
        except (DuplicateKeyError, BulkWriteError) as error:
            if isinstance(error, BulkWriteError) and not _duplicate(error):
                raise
        if len(suspects) > 1:  # a cure wants an id that is taken: see which
            return [done for one in suspects for done in self._settle([one], fragments)]
        hopeless = Settler(self.connection, self.deep, self.grace, repair=False)
        return hopeless._settle(suspects, fragments)

    def _one(
        self, transaction: Transaction, suspects: Sequence[Suspect], fragments: bool
    ) -> list[Settled]:
        clock = pages.now(self.connection)
        ids = {fw_id for one in suspects for fw_id in one.fw_ids}
        raw = pages.whole(self.connection, transaction.session, ids)
        stage_ids, fragment_ids = pages.there(self.connection, transaction.session, raw)
        facts = Facts(
            clock,
            self.grace,
            None if fragments else stage_ids,
            fragment_ids if fragments else None,
        )
        groups = {group.key: group for group in grouped(raw).groups}
        done = []
        for one in suspects:
            if (group := groups.get(one.key)) is not None:
                found = list(check(group, facts))
                if fragments:
                    found = [item for item in found if item.name == "contents"]
                done.append(self._decide(transaction, one, group, found, raw, facts))
        return done

    def _decide(
        self,
        transaction: Transaction,
        suspect: Suspect,
        group: Group,
        found: list[Finding],
        raw: Raw,
        facts: Facts,
    ) -> Settled:
        waits = signs(found)
        settled = Settled(suspect, _fragment(group))
        if waits and not waits <= suspect.signs:
            settled.waits = waits
            settled.left = [item for item in found if not item.sign]
        elif self.repair:
            tools = Tools(facts, self.deep.plan, self._ids("launch"), self._ids("fw"))
            cured = cure(_own(raw, group), group.key, tools)
            write(self.connection, transaction.session, cured.changes, facts.now)
            settled.cured, settled.left = cured.cured, cured.left
        else:
            settled.left = found
        return settled

    def _ids(self, kind: str) -> Iterator[int]:
        """New ids; taken outside of the transaction, so that a repeated one takes others."""
        name = f"next_{kind}_id"
        counters = self.connection[COUNTERS]
        while True:
            before = counters.find_one_and_update({}, {"$inc": {name: 1}})
            if before is None:
                raise RuntimeError("fw_id_assigner holds no counters")
            yield int(before[name])


def signs(found: Sequence[Finding]) -> Signs:
    """Signs of those findings that have one."""
    return frozenset((item.name, item.where, item.sign) for item in found if item.sign)


def _own(raw: Raw, group: Group) -> Raw:
    """What of the documents belongs to one workflow."""
    ids = group.fw_ids
    belongs: Mapping[str, Callable[[dict[str, object]], bool]] = {
        "workflows": lambda item: any(item is own for own in group.workflows),
        "fireworks": lambda item: item.get("fw_id") in ids,
        "launches": lambda item: item.get("fw_id") in ids,
        "attempts": lambda item: str(item.get("key")).startswith(f"{group.key}."),
        "records": lambda item: str(item["_id"]).startswith(f"{group.key}."),
    }
    return {name: list(filter(belongs[name], raw[name])) for name in belongs}


def _fragment(group: Group) -> str:
    if group.stages:
        return str(group.stages[0].entry["fragment_id"])
    metadata = [item.get("metadata") for item in group.workflows]
    return next((str(m["fragment_id"]) for m in metadata if m and "fragment_id" in m), "")


def _duplicate(error: BulkWriteError) -> bool:
    return any(one.get("code") == _DUPLICATE for one in error.details.get("writeErrors", []))
