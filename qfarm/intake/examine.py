"""Examine: from one frame to its plan, or to every problem it has. Pure."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from qfarm.engines import engine
from qfarm.intake import labels
from qfarm.intake.checks import Draft, flaws
from qfarm.intake.comment import unbalanced
from qfarm.intake.frames import Frame
from qfarm.intake.problem import Flaw, Kind, Problem
from qfarm.intake.structure import Structure, structure
from qfarm.intake.unmatched import remedy
from qfarm.ladder import fallback_level
from qfarm.plan import NoLevel, Plan, plan
from qfarm_schemas.config import Protocol, Stage
from qfarm_schemas.fragment import Fragment

Refuse = Callable[[Fragment, Stage], str | None]
"""Why a stage's engine cannot compute a fragment; None when it can."""

Lacking = Callable[[Fragment, Stage], Flaw | None]
"""Which parameter files of a stage are missing; None when all are there."""


@dataclass(frozen=True)
class Rejected:
    """A frame with problems; class and size as far as they can be told."""

    problems: tuple[Problem, ...]
    fragment_class: str = ""
    n_atoms: int = 0


def refusal(fragment: Fragment, stage: Stage) -> str | None:
    """Ask the stage's own engine."""
    return engine(stage.level.engine).refuse(fragment, stage.level, stage.task)


def nothing_lacks(fragment: Fragment, stage: Stage) -> None:
    """Stand for a place that has every file."""


class Once:
    """Ask once for each level with its fallback, partition and set of elements: few in a batch."""

    def __init__(self, ask: Lacking) -> None:
        self._ask = ask
        self._known: dict[Hashable, Flaw | None] = {}

    def __call__(self, fragment: Fragment, stage: Stage) -> Flaw | None:
        """Ask, or remember the answer."""
        elements = frozenset(fragment.numbers.tolist())
        fallback = fallback_level(stage, fragment.n_atoms)
        key = (stage.level.id, fallback and fallback.id, stage.partition, elements)
        if key not in self._known:
            self._known[key] = self._ask(fragment, stage)
        return self._known[key]


@dataclass(frozen=True)
class Examiner:
    """What a submission asks for.

    Attributes
    ----------
    protocol : Protocol
        Gives each fragment its stages.
    fragment_class : str or None
        Class of every fragment; None: what the file says.
    tags : tuple of str
        Added to the tags in the file.
    refuse : callable
        Asks the engine of a stage.
    lacking : callable
        Asks for its parameter files, if the engine does not refuse.
    """

    protocol: Protocol
    fragment_class: str | None = None
    tags: tuple[str, ...] = ()
    refuse: Refuse = refusal
    lacking: Lacking = nothing_lacks

    def examine(self, frame: Frame | Problem) -> Plan | Rejected:
        """Give a frame its plan, or list all that is wrong with it."""
        if isinstance(frame, Problem):
            return Rejected((frame,))
        read = unbalanced(frame.comment) or structure(frame)
        if isinstance(read, Flaw):
            return Rejected((Problem(frame.where, read),))
        made = self._fragment(read, f"{frame.where.file}#{frame.where.frame}")
        planned = made if isinstance(made, tuple) else self._plan(made)
        if isinstance(planned, Plan):
            return planned
        problems = tuple(Problem(frame.where, flaw) for flaw in planned)
        return Rejected(problems, self._class_of(read), len(read.numbers))

    def _fragment(self, read: Structure, source: str) -> Fragment | tuple[Flaw, ...]:
        charge, multiplicity = labels.charge(read), labels.multiplicity(read)
        fragment_class, tags = self.fragment_class or labels.fragment_class(read), labels.tags(read)
        draft = _draft(read, charge, multiplicity)
        values = (charge, multiplicity, fragment_class, tags, *labels.misread(read))
        found = (*(value for value in values if isinstance(value, Flaw)), *flaws(draft))
        if found or isinstance(fragment_class, Flaw) or isinstance(tags, Flaw):
            return found
        return Fragment(
            numbers=read.numbers,
            positions=read.positions,
            charge=draft.charge or 0,
            multiplicity=draft.multiplicity or 1,
            fragment_class=fragment_class or _unclassified(),
            tags=tuple(dict.fromkeys((*tags, *self.tags))),
            source=source,
        )

    def _plan(self, fragment: Fragment) -> Plan | tuple[Flaw, ...]:
        planned = plan(fragment, self.protocol)
        if isinstance(planned, NoLevel):
            return (Flaw(Kind.LEVEL, str(planned), remedy(planned, self.protocol)),)
        refusals = tuple(self._refusals(planned))
        return tuple(dict.fromkeys(refusals)) or planned

    def _refusals(self, planned: Plan) -> Iterator[Flaw]:
        for stage in planned.stages:
            reason = self.refuse(planned.fragment, stage)
            where = f"stage {stage.name!r} ({stage.level.engine})"
            if reason is not None:
                yield Flaw(Kind.ENGINE, f"{where}: {_end(reason)}", "")
                continue
            lack = self.lacking(planned.fragment, stage)
            if lack is not None:
                yield replace(lack, what=f"{where}: {_end(lack.what)}")

    def _class_of(self, read: Structure) -> str:
        named = self.fragment_class or labels.fragment_class(read)
        return named if isinstance(named, str) else _unclassified()


def _draft(read: Structure, charge: int | Flaw | None, multiplicity: int | Flaw | None) -> Draft:
    return Draft(
        numbers=read.numbers,
        positions=read.positions,
        periodic=read.periodic,
        charge=None if isinstance(charge, Flaw) else charge,
        multiplicity=None if isinstance(multiplicity, Flaw) else multiplicity,
        charge_wrong=isinstance(charge, Flaw),
        multiplicity_wrong=isinstance(multiplicity, Flaw),
    )


def _unclassified() -> str:
    default: str = Fragment.model_fields["fragment_class"].default
    return default


def _end(sentence: str) -> str:
    return sentence.rstrip().removesuffix(".")
