"""The checker: reads MongoDB raw and says whether all that was promised is there, and no more.

It shares no code with the store. What must be there follows from the list of the submitted
fragments and from `chaos.fates` alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pymongo.database import Database

from chaos import fates, raw
from chaos.batch import Line
from chaos.fates import NAME, RUNGS, STAGES, Spot
from chaos.raw import Document, Raw, Runs

STORM: Final = frozenset({"lost-worker", "interrupted", "crashed", "scratch-full"})
"""Kinds of failure that a storm brings about; they never decide the fate of a stage."""

_ENDED: Final = frozenset({"COMPLETED", "FIZZLED"})
_SHOWN: Final = 3


@dataclass
class Found:
    """The verdict.

    Attributes
    ----------
    violations : dict
        Rule -> where it is broken.
    figures : dict
        Name -> number.
    states, workflow_states : Counter
        Fireworks and workflows by state.
    """

    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, int] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    workflow_states: Counter[str] = field(default_factory=Counter)

    def report(self) -> str:
        """Lines for people."""
        lines = [f"{name}: {number}" for name, number in self.figures.items()]
        for rule, places in self.violations.items():
            lines.append(f"BROKEN: {rule} ({len(places)}), e.g. {'; '.join(places[:_SHOWN])}")
        return "\n".join([*lines, f"checker: {len(self.violations)} rules broken"])


_Broken = Iterator[tuple[str, str]]
"""Rules that are broken, and where."""


@dataclass(frozen=True)
class Stage:
    """One stage as it stands in the database."""

    line: Line
    position: int
    firework: Document
    attempts: Sequence[Document]
    records: Sequence[Document]

    @property
    def name(self) -> str:
        return STAGES[self.position]

    @property
    def short(self) -> str:
        return self.line.id[:NAME]

    @property
    def key(self) -> str:
        return f"{self.line.workflow}.{self.name}"

    @property
    def reason(self) -> str | None:
        """Why it must fail; None when it must have a record."""
        return fates.reason(self.short, self.name)

    @property
    def start(self) -> fates.Positions:
        """Geometry that it must start from."""
        submitted = self.line.positions
        return submitted if self.position == 0 else fates.moved(self.short, STAGES[0], submitted)


def check(database: Database[Document], lines: Sequence[Line], log: Path) -> Found:
    """Judge a farm that has nothing left to do.

    Parameters
    ----------
    database : Database
        The farm's.
    lines : sequence of Line
        All that was submitted.
    log : Path
        Where the engine processes said that they began and ended.
    """
    documents, engines, found = raw.load(database), raw.runs(log), Found()
    for rule, where in _all(documents, lines, engines):
        found.violations[rule].append(where)
    _count(found, documents, engines)
    return found


def _all(documents: Raw, lines: Sequence[Line], engines: Runs) -> _Broken:
    keys = {line.workflow for line in lines}
    for key in (documents.workflows.keys() | documents.fireworks.keys()) - keys:
        yield "a workflow that nobody submitted", key
    stages = {f"{key}.{name}" for key in keys for name in STAGES}
    for key in (documents.attempts.keys() | documents.records.keys()) - stages:
        yield "an attempt or record of a stage that nobody submitted", key
    if documents.refusals:
        yield "an entry was refused", str(documents.refusals)
    yield from _fragments(documents, lines)
    for line in lines:
        yield from _fragment(documents, line, engines)
    yield from _launches_belong(documents)
    yield from _tokens(documents)
    for name in engines.twice:
        yield "two engine processes ran under one token", name


def _fragments(documents: Raw, lines: Sequence[Line]) -> _Broken:
    for line in lines:
        held = documents.fragments.get(line.id)
        if held is None:
            yield "a fragment is not there", line.id
        elif raw.rows(held.get("positions")) != line.positions:
            yield "a fragment is not as submitted", line.id
    for key in documents.fragments.keys() - {line.id for line in lines}:
        yield "a fragment that nobody submitted", key


def _fragment(documents: Raw, line: Line, engines: Runs) -> _Broken:
    workflows, places = documents.workflows[line.workflow], documents.fireworks[line.workflow]
    if len(workflows) != 1:
        yield f"{len(workflows)} workflows of a fragment", line.id
        return
    if sorted(places) != list(range(len(STAGES))) or any(len(p) != 1 for p in places.values()):
        yield "a workflow has not each of its stages once", line.id
        return
    stages = [
        Stage(line, i, places[i][0], documents.attempts[key], documents.records[key])
        for i, key in enumerate(f"{line.workflow}.{name}" for name in STAGES)
    ]
    yield from _workflow(workflows[0], stages)
    runs_next = True
    for stage in stages:
        yield from _stage(stage, runs_next, engines)
        yield from _launches(documents, stage)
        runs_next = runs_next and stage.reason is None


def _workflow(workflow: Document, stages: Sequence[Stage]) -> _Broken:
    where = stages[0].line.id
    ids = [stage.firework["fw_id"] for stage in stages]
    states = {str(stage.firework["fw_id"]): stage.firework["state"] for stage in stages}
    if sorted(workflow.get("nodes", ())) != sorted(ids):
        yield "a workflow names other fireworks", where
    links = {str(parent): [child] for parent, child in pairwise(ids)}
    held = {parent: child for parent, child in workflow.get("links", {}).items() if child}
    if held != links:
        yield "links of a workflow are wrong", where
    if workflow.get("fw_states") != states:
        yield "fw_states of a workflow are not those of its fireworks", where
    if workflow.get("state") != workflow_state(list(states.values())):
        yield "the state of a workflow is not what FireWorks' rule gives", where
    if "locked" in workflow:
        yield "a workflow is locked", where


def workflow_state(states: Sequence[str]) -> str:
    """FireWorks' rule for a chain of fireworks in these states, first to last."""
    if states[-1] == "COMPLETED":
        return "COMPLETED"
    for state in ("DEFUSED", "PAUSED", "FIZZLED"):
        if state in states:
            return state
    if "COMPLETED" in states or "RUNNING" in states:
        return "RUNNING"
    return "RESERVED" if "RESERVED" in states else "READY"


def _stage(stage: Stage, may_run: bool, engines: Runs) -> _Broken:
    where, state = f"{stage.line.id[:NAME]} {stage.name}", stage.firework["state"]
    for name in ("lease", "hold"):
        if name in stage.firework:
            yield f"a {name} is left", where
    must = "WAITING" if not may_run else "COMPLETED" if stage.reason is None else "FIZZLED"
    if state != must:
        yield f"a stage is {state} and must be {must}", where
    if not may_run and (stage.attempts or stage.records):
        yield "a stage after a failed one was run", where
    if len(stage.records) != (1 if must == "COMPLETED" else 0):
        yield f"{len(stage.records)} records of a stage that must be {must}", where
    failure = stage.firework.get("failure") or {}
    if failure.get("reason") != (stage.reason if must == "FIZZLED" else None):
        yield "the reason of a failed stage is wrong", f"{where}: {failure.get('reason')!r}"
    counted = stage.firework["spec"]["qfarm"].get("attempts", 0)
    if counted != len(stage.attempts):
        yield "attempts are miscounted in the queue", f"{where}: {counted}"
    yield from _history(stage, where, engines)
    for record in stage.records:
        yield from _record(stage, record, where)


def _history(stage: Stage, where: str, engines: Runs) -> _Broken:
    numbers = [attempt["number"] for attempt in stage.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "attempts are not numbered 1 to n", f"{where}: {numbers}"
    good = [attempt["number"] for attempt in stage.attempts if _said(attempt) == "ok"]
    if len(good) != len(stage.records) or good not in ([], numbers[-1:]):
        yield "not one success a record, as the last attempt", f"{where}: {good} of {numbers}"
    rung = 0
    for attempt in stage.attempts:
        spot = Spot(stage.short, stage.name, attempt["number"], rung)
        yield from _attempt(attempt, spot, where, engines)
        rung += _said(attempt) == "scf-not-converged"


def _run(attempt: Document) -> str:
    """Name of the scratch folder of an attempt."""
    short, token = attempt["fragment_id"][:NAME], attempt["store"]["token"]
    return f"{short}.{attempt['stage']}.{attempt['number']}.{token}"


def _said(attempt: Document) -> str:
    outcome = attempt["outcome"]
    return "ok" if outcome["status"] == "success" else str(outcome["kind"])


def _attempt(attempt: Document, spot: Spot, where: str, engines: Runs) -> _Broken:
    place, said = f"{where} attempt {spot.number}", _said(attempt)
    if attempt["_id"] != f"{attempt['key']}:{attempt['number']}":
        yield "the id of an attempt is not its key and number", place
    if attempt["rung"]["scf"] != RUNGS[min(spot.rung, len(RUNGS) - 1)]:
        yield "an attempt stands on the wrong rung", f"{place}: {attempt['rung']['scf']}"
    if said != fates.outcome(spot) and said not in STORM:
        yield "an attempt ended as its engine cannot", f"{place}: {said}"
    ended = engines.ended.get(_run(attempt))
    if said not in STORM and ended != said:
        yield "an attempt tells what no engine said", f"{place}: {said}, the engine: {ended}"


def _record(stage: Stage, record: Document, where: str) -> _Broken:
    result, number = record["result"], record["provenance"]["attempt"]
    own = [a for a in stage.attempts if a["number"] == number and _said(a) == "ok"]
    if record["_id"] != stage.key or record["fragment_id"] != stage.line.id:
        yield "a record stands under another name", where
    if len(own) != 1:
        yield "the attempt of a record is not there", where
        return
    rung = sum(_said(a) == "scf-not-converged" for a in stage.attempts if a["number"] < number)
    spot = Spot(stage.short, stage.name, number, rung)
    if raw.rows(result["positions"]) != fates.moved(stage.short, stage.name, stage.start):
        yield "the geometry of a record is not the engine's", where
    if result["energy"] != fates.energy(spot, stage.start):
        yield "the energy of a record is not the engine's", where
    if result["engine_version"] != fates.signature(number, own[0]["store"]["token"]):
        yield "a record is of another attempt than it says", where


def _launches(documents: Raw, stage: Stage) -> _Broken:
    where = f"{stage.line.id[:NAME]} {stage.name}"
    firework, state = stage.firework, stage.firework["state"]
    last, before = firework.get("launches", []), firework.get("archived_launches", [])
    if len(set(last) | set(before)) != len(last) + len(before):
        yield "a firework names a launch twice", where
    if len(last) != (state in _ENDED):
        yield f"a firework in state {state} has {len(last)} launches", where
    for number in [*last, *before]:
        held = documents.launches.get(number, [])
        if len(held) != 1:
            yield f"{len(held)} documents of a launch", f"{where}: {number}"
            continue
        if held[0]["fw_id"] != firework["fw_id"]:
            yield "a launch names another firework", f"{where}: {number}"
        must = state if number in last else "FIZZLED"
        if held[0]["state"] != must:
            yield f"a launch is {held[0]['state']} and must be {must}", f"{where}: {number}"


def _launches_belong(documents: Raw) -> _Broken:
    known: Counter[int] = Counter()
    for places in documents.fireworks.values():
        for firework in _flat(places.values()):
            known.update(firework.get("launches", []))
            known.update(firework.get("archived_launches", []))
    for number in documents.launches.keys() - known.keys():
        yield "a launch of no firework", str(number)
    for number, count in known.items():
        if count > 1:
            yield "two fireworks share a launch", str(number)


def _tokens(documents: Raw) -> _Broken:
    """A token may serve several stages that were claimed together, but each of them once."""
    attempts = _flat(documents.attempts.values())
    for (key, token), count in Counter((a["key"], a["store"]["token"]) for a in attempts).items():
        if count > 1:
            yield "one token committed twice", f"{key} {token}"


def _count(found: Found, documents: Raw, engines: Runs) -> None:
    """Figures of a farm."""
    attempts = list(_flat(documents.attempts.values()))
    told = {_run(attempt) for attempt in attempts}
    fireworks = [f for places in documents.fireworks.values() for f in _flat(places.values())]
    found.states = Counter(str(firework["state"]) for firework in fireworks)
    found.workflow_states = Counter(str(w["state"]) for w in _flat(documents.workflows.values()))
    good = Counter(tuple(name.split(".")[:2]) for name, s in engines.ended.items() if s == "ok")
    found.figures |= {
        "workflows": len(documents.workflows),
        "records": sum(map(len, documents.records.values())),
        "stages failed with a reason": found.states["FIZZLED"],
        "stages not run after a failed one": found.states["WAITING"],
        "attempts": len(attempts),
        "attempts lost to the storm": sum(_said(a) in STORM for a in attempts),
        "engine runs begun": len(engines.begun),
        "engine runs cut off": len(engines.begun) - len(engines.ended),
        "engine runs in vain (ended, not committed)": len(engines.ended.keys() - told),
        "stages whose engine ran to a good end twice": sum(n > 1 for n in good.values()),
    }


def _flat(lists: Iterable[Sequence[Any]]) -> Iterator[Any]:
    for items in lists:
        yield from items
