"""The checker for farms whose engines are real: every stage must have one record, and no more.

What the engine of the storm would say is not known of them; all that holds for any engine is asked
for by the rules of `chaos.checker`, which reads MongoDB raw.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from pymongo.database import Database

from chaos import checker, raw
from chaos.batch import Line
from chaos.checker import Found, Stage
from chaos.fates import STAGES
from chaos.raw import Document, Raw

CHEMISTRY = frozenset({"scf-not-converged", "threshold-missed", "geometry-not-converged"})


def check(database: Database[Document], lines: Sequence[Line]) -> Found:
    """Judge a farm in which all must have gone well in the end."""
    documents, found = raw.load(database), Found()
    for rule, where in chain(
        checker._fragments(documents, lines),
        chain.from_iterable(_fragment(documents, line) for line in lines),
        checker._launches_belong(documents),
        checker._tokens(documents),
    ):
        found.violations[rule].append(where)
    if documents.refusals or len(documents.workflows) != len(lines):
        found.violations["other entries than were submitted"].append(str(documents.refusals))
    attempts = list(chain.from_iterable(documents.attempts.values()))
    found.figures |= {
        "workflows": len(documents.workflows),
        "records": sum(map(len, documents.records.values())),
        "attempts": len(attempts),
        **{f"attempts, {said}": n for said, n in Counter(map(checker._said, attempts)).items()},
    }
    return found


def _fragment(documents: Raw, line: Line) -> checker._Broken:
    workflows, places = documents.workflows[line.workflow], documents.fireworks[line.workflow]
    if len(workflows) != 1 or sorted(places) != list(range(len(STAGES))):
        yield "a fragment has not one workflow with each of its stages", line.id
        return
    stages = [
        Stage(line, i, places[i][0], documents.attempts[key], documents.records[key])
        for i, key in enumerate(f"{line.workflow}.{name}" for name in STAGES)
    ]
    if any(len(place) != 1 for place in places.values()):
        yield "a stage stands twice in the queue", line.id
    yield from checker._workflow(workflows[0], stages)
    for stage in stages:
        yield from _stage(stage)
        yield from checker._launches(documents, stage)


def _stage(stage: Stage) -> checker._Broken:
    where = f"{stage.short} {stage.name}"
    if stage.firework["state"] != "COMPLETED" or "lease" in stage.firework:
        yield "a stage is not done", f"{where}: {stage.firework['state']}"
    if len(stage.records) != 1 or stage.records[0]["_id"] != stage.key:
        yield f"{len(stage.records)} records of a stage", where
        return
    numbers = [attempt["number"] for attempt in stage.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "attempts are not numbered 1 to n", f"{where}: {numbers}"
    good = [attempt["number"] for attempt in stage.attempts if checker._said(attempt) == "ok"]
    if good != numbers[-1:] or stage.records[0]["provenance"]["attempt"] != numbers[-1]:
        yield "not one success, as the last attempt", f"{where}: {good} of {numbers}"
    if stage.firework["spec"]["qfarm"].get("attempts", 0) != len(numbers):
        yield "attempts are miscounted in the queue", where
    if any(checker._said(attempt) in CHEMISTRY for attempt in stage.attempts):
        yield "what happened to nodes and jobs was paid from the chemistry budget", where
