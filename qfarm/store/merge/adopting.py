"""Adopting: workflows that both farms know, compared and brought together stage by stage.

They are looked at twice: once to see whether anything is to be done, and again in the transaction
that does it. A worker that claims or commits in between wins.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from pymongo import UpdateOne
from pymongo.client_session import ClientSession

from qfarm.store import arrays, entry
from qfarm.store.codec import UnreadableError, decode
from qfarm.store.connection import Connection, Document, Transaction
from qfarm.store.documents import stage_state
from qfarm.store.entry import Foreign
from qfarm.store.histories import ATTEMPTS, RECORDS
from qfarm.store.merge import made
from qfarm.store.merge.adding import joined
from qfarm.store.merge.judge import Difference, Judgement, Kind, Numbers, Ours, difference, judge
from qfarm.store.merge.made import Histories
from qfarm.store.merge.target import Target, tries
from qfarm.store.merge.theirs import Found, Theirs
from qfarm.store.protocol import StageState
from qfarm.store.transitions import HEAD, Transition, archived, moved

_PAGE: Final = 100
"""Workflows changed in one transaction; few, because workers commit to them meanwhile."""

_FIELDS: Final[Document] = {k: v for k, v in HEAD.items() if not k.startswith("spec.")} | {
    "spec": 1
}
_OWN: Final = ("_id", "store")


class Case(NamedTuple):
    """A workflow that both farms know.

    Attributes
    ----------
    theirs : Theirs
        As it stands there.
    heads : list of dict
        Its fireworks here, in order.
    judgements : tuple of Judgement
        What becomes of each stage; none when what stands here is not whole.
    """

    theirs: Theirs
    heads: list[Document]
    judgements: tuple[Judgement, ...]

    @property
    def adopts(self) -> bool:
        """Whether there is anything to write."""
        return any(judgement.kind is Kind.ADOPTED for judgement in self.judgements)


class _Step(NamedTuple):
    """A stage whose record is adopted, with its firework and what is written for it."""

    stage: Found
    head: Document
    histories: Histories
    launches: list[int]
    number: int


def survey(target: Target, known: Sequence[Theirs]) -> list[Case]:
    """Compare workflows, and write nothing."""
    return target.connection.retry(partial(_survey, target, known))


def adopt(target: Target, known: Sequence[Theirs]) -> list[Case]:
    """Compare workflows, and adopt the records that are missing here; what was done."""
    cases = survey(target, known)
    settled = [case for case in cases if not case.adopts]
    rest = iter([case for case in cases if case.adopts])
    while page := list(islice(rest, _PAGE)):
        settled += _adopt_page(target, page)
    return settled


def _adopt_page(target: Target, page: Sequence[Case]) -> list[Case]:
    stages = [stage for case in page for stage, _ in _adopted(case)]
    _, launches = target.numbers(0, tries(stages))
    first = next(launches)
    target.copy_arrays([stage.record for stage in stages if stage.record is not None])
    return target.connection.transact(partial(_adopt, target=target, page=page, first=first))


def _adopt(
    transaction: Transaction, target: Target, page: Sequence[Case], first: int
) -> list[Case]:
    target.hold(transaction)
    change = Transition(target.connection, transaction)
    now = _survey(target, [case.theirs for case in page], transaction.session)
    cases = list(map(_within, now, page))
    adopting = [case for case in cases if case.adopts]
    if not adopting:
        return cases
    steps = _steps(target, adopting, transaction.session, first)
    target.insert(transaction, joined([step.histories for step in steps]))
    change.move(*map(_completed, steps), *_released(adopting))
    heads = [case.heads[0] for case in adopting]
    change.refresh([head["fw_id"] for head in heads], heads[0]["now"])
    return cases


def _within(now: Case, before: Case) -> Case:
    """The case as it is now, adopting no more than was prepared: what ran then may run again."""
    prepared = [found.kind is Kind.ADOPTED for found in before.judgements]
    judgements = tuple(
        found if ready or found.kind is not Kind.ADOPTED else Judgement(Kind.RUNNING)
        for found, ready in zip(now.judgements, prepared, strict=False)
    )
    return now._replace(judgements=judgements)


def _survey(
    target: Target, known: Sequence[Theirs], session: ClientSession | None = None
) -> list[Case]:
    heads = _heads(target.connection, known, session)
    records = _records(target.connection, known, session)
    cases = [_case(target, theirs, heads.get(theirs.plan.key, []), records) for theirs in known]
    accepted = _accepted(target.connection, cases, session)
    return [_unsound(c.theirs) if c.theirs.plan.key in accepted else c for c in cases]


def _case(
    target: Target, theirs: Theirs, heads: Sequence[Document], records: Mapping[str, Document]
) -> Case:
    standing = _standing(theirs, heads)
    if standing is None:
        return _unsound(theirs)
    try:
        ours = [
            _ours(target, stage, head, records.get(stage.entry.key))
            for stage, head in zip(theirs.stages, standing, strict=True)
        ]
    except (UnreadableError, ValueError):
        return _unsound(theirs)
    if any(one.state is StageState.DONE and not one.done for one in ours):
        return _unsound(theirs)
    done = [stage.record is not None for stage in theirs.stages]
    return Case(theirs, standing, judge(ours, done))


def _unsound(theirs: Theirs) -> Case:
    """A workflow that is for `qfarm fsck` before anything may be added to it."""
    return Case(theirs, [], ())


def _standing(theirs: Theirs, heads: Sequence[Document]) -> list[Document] | None:
    """Fireworks here in the order of the stages, if they are as qfarm wrote them."""
    placed: dict[str, Document] = {}
    for head in heads:
        one = entry.read(head.get("spec"))
        if isinstance(one, Foreign) or not isinstance(head.get("fw_id"), int):
            return None
        placed[one.key] = head
    keys = [stage.entry.key for stage in theirs.stages]
    if len(heads) != len(keys) or set(placed) != set(keys):
        return None
    return [placed[key] for key in keys]


def _ours(target: Target, stage: Found, head: Document, record: Document | None) -> Ours:
    state = stage_state(head.get("state"))
    if record is None or stage.record is None:
        return Ours(state, record is not None)
    return Ours(state, done=True, difference=_difference(target, record, stage.record))


def _difference(target: Target, mine: Document, their: Document) -> Difference | None:
    """How far two records are apart; None when they are the same one."""
    if _content(mine) == _content(their):
        return None
    connection: Connection = target.connection
    return difference(_numbers(connection, mine), _numbers(target.source.arrays, their))


def _content(record: Document) -> Document:
    """A record without what a merge changes in it."""
    content = {name: value for name, value in record.items() if name not in _OWN}
    provenance = content.get("provenance")
    if isinstance(provenance, Mapping):
        content["provenance"] = {k: v for k, v in provenance.items() if k != "attempt"}
    return content


def _numbers(connection: Connection, record: Document) -> Numbers:
    result = record.get("result")
    found = {n: result.get(n) for n in Numbers.model_fields} if isinstance(result, Mapping) else {}
    return decode(Numbers, arrays.fill(connection, found))


def _heads(
    connection: Connection, known: Sequence[Theirs], session: ClientSession | None
) -> dict[str, list[Document]]:
    """Fireworks here by workflow."""
    query = {"spec.qfarm.workflow": {"$in": [theirs.plan.key for theirs in known]}}
    found: dict[str, list[Document]] = {}
    for head in connection["fireworks"].find(query, _FIELDS, session=session):
        found.setdefault(head["spec"]["qfarm"]["workflow"], []).append(head)
    return found


def _records(
    connection: Connection, known: Sequence[Theirs], session: ClientSession | None
) -> dict[str, Document]:
    """Records here by stage key."""
    keys = [stage.entry.key for theirs in known for stage in theirs.stages]
    found = connection[RECORDS].find({"_id": {"$in": keys}}, session=session)
    return {record["_id"]: record for record in found}


def _accepted(
    connection: Connection, cases: Sequence[Case], session: ClientSession | None
) -> set[str]:
    """Keys of workflows with an attempt that was accepted here and has no record."""
    keys = [stage.entry.key for case in cases for stage, _ in _adopted(case)]
    if not keys:
        return set()
    query: Document = {"key": {"$in": keys}, "outcome.status": "success"}
    found = connection[ATTEMPTS].find(query, {"key": 1}, session=session)
    return {item["key"].partition(".")[0] for item in found}


def _steps(
    target: Target, cases: Sequence[Case], session: ClientSession, first: int
) -> list[_Step]:
    places = [place for case in cases for place in _adopted(case)]
    before = _attempts(target.connection, [stage.entry.key for stage, _ in places], session)
    launches = iter(range(first, first + tries([stage for stage, _ in places])))
    steps: list[_Step] = []
    for stage, head in places:
        made_here = before.get(stage.entry.key, 0)
        histories, own = made.adopted(stage, head["fw_id"], launches, made_here, target.origin)
        steps.append(_Step(stage, head, histories, own, made_here + len(own)))
    return steps


def _adopted(case: Case) -> Iterator[tuple[Found, Document]]:
    every = zip(case.theirs.stages, case.heads, case.judgements, strict=False)
    return ((stage, head) for stage, head, found in every if found.kind is Kind.ADOPTED)


def _attempts(
    connection: Connection, keys: Sequence[str], session: ClientSession
) -> dict[str, int]:
    """Number of the last attempt at each of these stages."""
    group: Document = {"_id": "$key", "last": {"$max": "$number"}}
    pipeline: list[Document] = [{"$match": {"key": {"$in": list(keys)}}}, {"$group": group}]
    found = connection[ATTEMPTS].aggregate(pipeline, session=session)
    return {item["_id"]: int(item["last"]) for item in found}


def _completed(step: _Step) -> UpdateOne:
    shown = made.last_launch(step.stage, step.launches)
    aside = {*archived(step.head)["archived_launches"], *step.launches} - set(shown)
    fields: dict[str, Any] = {
        "launches": shown,
        "archived_launches": sorted(aside),
        "spec__qfarm__attempts": step.number,
    }
    return moved(step.head, "COMPLETED", unset=["failure", "lease"], **fields)


def _released(cases: Sequence[Case]) -> Iterator[UpdateOne]:
    """Stages that wait for nothing but what is adopted."""
    for case in cases:
        following = zip(case.judgements, case.heads[1:], case.judgements[1:], strict=False)
        for before, head, judgement in following:
            waits = judgement.kind is not Kind.ADOPTED and head["state"] == "WAITING"
            if before.kind is Kind.ADOPTED and waits:
                yield moved(head, "READY")
