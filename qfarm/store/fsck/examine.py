"""The course of an examination: all workflows, then what belongs to nothing, then the farm."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from qfarm.store import arrays, version
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.contents import FRAGMENTS
from qfarm.store.fsck import farm, pages, states, sweeps
from qfarm.store.fsck.changes import Aside
from qfarm.store.fsck.cure import check
from qfarm.store.fsck.deep import Deep
from qfarm.store.fsck.model import Facts, Finding, Found, current, grouped, integer, nodes
from qfarm.store.fsck.pages import Page
from qfarm.store.fsck.report import Report
from qfarm.store.fsck.settle import AT_ONCE, Settled, Settler, Suspect, signs
from qfarm.store.fsck.table import IN_WORKFLOWS
from qfarm.store.fsck.tools import Tools
from qfarm.store.fsck.write import write
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm.store.upkeep import upkeep

_WATCHED: Final = 10_000
"""Workflows watched for a sign of life at a time."""

_LOST: Final = 200
"""Documents moved to `lost_found` in one transaction."""

_BY_STAGE: Final = (sweeps.STAGE_KEYS, sweeps.ATTEMPT_KEYS, sweeps.RECORD_KEYS)
_COUNTED: Final = (
    ("next_fw_id", "fireworks", "fw_id"),
    ("next_launch_id", "launches", "launch_id"),
)
_BY_FRAGMENT: Final = (sweeps.FRAGMENT_IDS, sweeps.FRAGMENT_KEYS)


@dataclass(frozen=True)
class Options:
    """How to examine.

    Attributes
    ----------
    repair : bool
        Cure what is found.
    deep : bool
        Open every document too.
    grace : float
        Seconds after its end that a lease may wait for the reaper.
    patience : float
        Seconds that a lease or a lock must stay without a sign of life while fsck looks.
    page : int
        Fireworks read at a time.
    """

    repair: bool = False
    deep: bool = False
    grace: float = 80.0
    patience: float = 20.0
    page: int = 2000


def fsck(
    uri: str,
    database: str,
    options: Options | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Examine a farm, beside its running workers; with `Options.repair`, cure it.

    Every cure is one transaction that finds again what it cures, so it may be cut off anywhere.

    Parameters
    ----------
    uri, database : str
        As for `open_store`.
    options : Options or None
        How.
    say : callable
        Told what is being looked at.

    Raises
    ------
    StoreError
        MongoDB does not answer, or holds documents of another version.
    NotAllowedError
        A repair needs the role admin.
    """
    chosen = options or Options()
    connection = Connection.open(uri, database, socket_ms=None)  # an index may take long to make
    try:
        version.check(connection)
        with upkeep(connection, "qfarm fsck --repair") if chosen.repair else nullcontext():
            return Examination(connection, chosen, say).run()
    finally:
        connection.close()


class _Stranger(NamedTuple):
    identity: object
    sign: str


@dataclass
class Examination:
    """One examination of a farm."""

    connection: Connection
    options: Options
    say: Callable[[str], None]
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        grace = timedelta(seconds=self.options.grace)
        self._deep = Deep(self.connection)
        self._settler = Settler(self.connection, self._deep, grace, self.options.repair)
        self._texts = sweeps.reader(self.connection)
        self._suspects: list[Suspect] = []
        self._watched: list[Suspect] = []
        self._strangers: list[_Stranger] = []
        self._launches: list[int] = []
        self._used = {"next_fw_id": 0, "next_launch_id": 0}

    def run(self) -> Report:
        """Look at everything."""
        if self.options.repair:
            self._counters()  # cures take ids
        self._workflows()
        self._settle()
        self._watch()
        self._sweeps()
        self._farm()
        self._arrays()
        if self.options.deep:
            self._open()
        return self.report

    def _workflows(self) -> None:
        facts = timedelta(seconds=self.options.grace)
        stage_ids = frozenset(
            text for (texts,) in sweeps.stretches(self._texts, [sweeps.STAGE_IDS]) for text in texts
        )
        seen = 0
        for page in pages.pages(self.connection, self.options.page):
            self._page(page, Facts(page.now, facts, stage_ids))
            seen += len(page.raw["fireworks"])
            self.say(f"{seen:,} stages")
            if len(self._suspects) >= AT_ONCE:
                self._settle()
            if len(self._watched) + len(self._strangers) >= _WATCHED:
                self._watch()
        self._empty()

    def _empty(self) -> None:
        """Put aside workflows that name no firework at all."""
        empty: Document = {"nodes.0": {"$exists": False}, "metadata.key": {"$exists": True}}
        for item in self._read("workflows", empty, {"metadata.key": 1}):
            finding = Finding("one workflow", str(item["metadata"]["key"]), "has no stages")
            if self.connection.transact(partial(self._still_empty, item["_id"], empty)):
                self.report.note([finding], self.options.repair)

    def _still_empty(self, identity: object, empty: Document, transaction: Transaction) -> bool:
        session = transaction.session
        query = {"_id": identity} | empty
        if self.connection["workflows"].find_one(query, {"_id": 1}, session=session) is None:
            return False
        if self.options.repair:
            aside = Aside("workflows", identity, "a workflow without stages")
            write(self.connection, session, [aside], pages.now(self.connection))
        return True

    def _page(self, page: Page, facts: Facts) -> None:
        found = grouped(page.raw)
        for group in found.groups:
            findings = list(check(group, facts))
            if findings:
                suspect = Suspect(group.key, frozenset(group.fw_ids), signs(findings))
                (self._watched if suspect.signs else self._suspects).append(suspect)
        for document in found.foreign:
            if next(states.strangers([document]), None) is not None:
                self._strangers.append(_Stranger(document["_id"], states.sign(document)))
        self._launches += [integer(item.get("launch_id")) for item in found.loose]
        self._count(page, len(found.groups), len(found.foreign))
        self._most(page)

    def _count(self, page: Page, groups: int, foreign: int) -> None:
        per = {"workflows": groups, "stages": len(page.raw["fireworks"]) - foreign}
        for invariant in IN_WORKFLOWS:
            self.report.checked(invariant.name, per[invariant.per])
        self.report.checked("strangers", foreign)
        self.report.checked("lost launch", len(page.raw["launches"]))
        self.report.checked("lost attempt", len(page.raw[ATTEMPTS]))
        self.report.checked("lost record", len(page.raw[RECORDS]))

    def _most(self, page: Page) -> None:
        """Keep the highest ids that are named anywhere."""
        launches = (number for item in page.raw["fireworks"] for number in current(item))
        named = (number for item in page.raw["workflows"] for number in nodes(item))
        for name, ids in (("next_launch_id", launches), ("next_fw_id", named)):
            self._used[name] = max(self._used[name], max(ids, default=0))

    def _settle(self) -> None:
        """Look again at the suspects; those that must be watched join the watched."""
        suspects, self._suspects = self._suspects, []
        for settled in self._settler.settle(suspects):
            if settled.waits:
                self._watched.append(settled.suspect._replace(signs=settled.waits))
            else:
                self._note(settled)

    def _watch(self) -> None:
        """Wait for signs of life, and settle what gave none."""
        if not self._watched and not self._strangers:
            return
        self.say(f"waiting {self.options.patience:.0f} s for signs of life")
        time.sleep(self.options.patience)
        watched, self._watched = self._watched, []
        for settled in self._settler.settle(watched):
            self._note(settled)  # what waits still has given a sign of life
        strangers, self._strangers = self._strangers, []
        for stranger in strangers:
            self._stop(stranger)

    def _note(self, settled: Settled) -> None:
        self.report.note(settled.cured, True, settled.fragment_id)
        self.report.note(settled.left, False, settled.fragment_id)

    def _stop(self, stranger: _Stranger) -> None:
        def work(transaction: Transaction) -> list[Found]:
            query = {"_id": stranger.identity}
            found = list(self.connection["fireworks"].find(query, session=transaction.session))
            same = [item for item in states.strangers(found) if item.sign == stranger.sign]
            if same and self.options.repair:
                facts = Facts(pages.now(self.connection))
                tools = Tools(facts, self._deep.plan, iter(()), iter(()))
                changes = states.stop_stranger(found[0], tools)
                write(self.connection, transaction.session, changes, facts.now)
            return same

        same = self.connection.transact(work)
        self.report.note((Finding("strangers", *one) for one in same), self.options.repair)

    def _sweeps(self) -> None:
        """Look for what belongs to nothing."""
        self.say("looking for what belongs to nothing")
        stretch = sweeps.stretches(self._texts, _BY_STAGE)
        for stages, attempts, records in stretch:
            there = set(stages)
            self._lost("lost attempt", ATTEMPTS, "key", set(attempts) - there, "spec.qfarm.key")
            self._lost("lost record", RECORDS, "_id", set(records) - there, "spec.qfarm.key")
        for named, fragments in sweeps.stretches(self._texts, _BY_FRAGMENT):
            self.report.checked("lost fragment", len(fragments))
            there, used = set(fragments), set(named)
            path = "spec.qfarm.fragment_id"
            self._lost("lost fragment", FRAGMENTS, "_id", there - used, path)
            self._no_fragment(sorted(used - there))
        self._lost("lost launch", "launches", "launch_id", self._launches, "fw_id")

    def _lost(
        self, name: str, collection: str, field_: str, lost: Iterable[object], named: str
    ) -> None:
        """Look again, in a transaction, and put aside what still belongs to no firework."""
        rest = iter(lost)
        while batch := list(islice(rest, _LOST)):
            found = self.connection.transact(
                partial(self._lost_again, name, collection, field_, batch, named)
            )
            self.report.note(found, self.options.repair)

    def _lost_again(
        self,
        name: str,
        collection: str,
        field_: str,
        batch: Sequence[object],
        named: str,
        transaction: Transaction,
    ) -> list[Finding]:
        session = transaction.session
        documents = list(
            self.connection[collection].find(
                {field_: {"$in": batch}}, {field_: 1, "fw_id": 1}, session=session
            )
        )
        of = {item["_id"]: item.get("fw_id" if named == "fw_id" else field_) for item in documents}
        query = {named: {"$in": list(of.values())}}
        owners = {
            _inside(item, named)
            for item in self.connection["fireworks"].find(query, {named: 1}, session=session)
        }
        lost = [item for item in documents if of[item["_id"]] not in owners]
        if self.options.repair and lost:
            asides = [Aside(collection, item["_id"], "belongs to no stage") for item in lost]
            write(self.connection, session, asides, pages.now(self.connection))
        return [Finding(name, str(item[field_]), "belongs to no stage") for item in lost]

    def _no_fragment(self, identities: Sequence[str]) -> None:
        """Report the stages whose fragment is not there."""
        if not identities:
            return
        query = {"spec.qfarm.fragment_id": {"$in": list(identities)}}
        fields = {"fw_id": 1, "spec.qfarm.workflow": 1}
        suspects: dict[str, set[int]] = {}
        for item in self._read("fireworks", query, fields):
            suspects.setdefault(item["spec"]["qfarm"]["workflow"], set()).add(item["fw_id"])
        listed = [Suspect(key, frozenset(ids)) for key, ids in suspects.items()]
        for settled in self._settler.settle(listed, fragments=True):
            self._note(settled)

    def _counters(self) -> None:
        """Look at FireWorks' counters."""
        used = dict(self._used)
        for name, collection, field_ in _COUNTED:
            used[name] = max(used[name], farm.highest(self.connection, collection, field_))
        wrong = list(farm.counters(self.connection, used))
        if wrong and self.options.repair:
            farm.count_on(self.connection, used)
        self._farm_again("counters", wrong, farm.counters(self.connection, used))

    def _farm(self) -> None:
        """Look at counters and indexes."""
        self.report.checked("counters", len(_COUNTED))
        self._counters()
        missing = list(farm.unique(self.connection))
        self.report.checked("unique", farm.unique_indexes())
        if missing and self.options.repair:
            farm.index_again(self.connection)
        self._farm_again("unique", missing, farm.unique(self.connection))

    def _farm_again(self, name: str, before: list[Found], after: Iterable[Found]) -> None:
        left = {item.where for item in after} if self.options.repair else None
        for item in before:
            repaired = left is not None and item.where not in left
            self.report.note([Finding(name, *item)], repaired)

    def _arrays(self) -> None:
        count = self.connection[RECORDS].count_documents
        self.report.checked(
            "array there", self.connection.retry(lambda: count({arrays.USED: {"$exists": True}}))
        )
        for identity, what in arrays.incomplete(self.connection, RECORDS):
            self.report.note([Finding("array there", identity, what)], False)
        if self.options.repair:
            removed = farm.sweep_arrays(self.connection)
            if removed:
                self.report.notes.append(f"{removed} pieces of arrays that no record uses removed")
        elif unused := farm.unused_arrays(self.connection):
            self.report.notes.append(
                f"{unused} pieces of arrays that no record uses (an upload was cut off); "
                "`qfarm fsck --repair` removes them"
            )

    def _open(self) -> None:
        for finding in self._deep.findings():
            self.report.note([finding], False)
            self.say(f"{self._deep.checked['intact entry']:,} stages opened")
        for name in Deep.NAMES:
            self.report.checked(name, self._deep.checked[name])

    def _read(
        self, collection: str, query: Document, fields: Document | None = None
    ) -> list[Document]:
        return self.connection.retry(lambda: list(self.connection[collection].find(query, fields)))


def _inside(document: Document, path: str) -> object:
    found: object = document
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
