"""Cost model: seconds and memory of each stage, level of theory and partition. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeVar

from pydantic import Field, JsonValue, ValidationError

from qfarm.costs.fit import Fit, Guess, Prediction, fit, guessed, known_elsewhere
from qfarm_schemas.base import Model
from qfarm_schemas.config import Stage, TaskKind
from qfarm_schemas.level import LevelOfTheory

Of = Literal["seconds", "memory_mb"]
"""What a line foretells."""

VERSION: Final = 1
"""Of the document."""

PARTITION_SPREAD: Final = 0.7
"""ln of the factor by which partitions differ: processors of one age by two, either way."""

PARTITION_EXPONENT: Final = 0.1
"""By which exponents of partitions differ."""

EVERYWHERE: Final = ""
"""Stands for all partitions together."""


class Start(Model):
    """What an engine thinks that a calculation costs on one core.

    Attributes
    ----------
    seconds, memory_mb : Guess
        Wall time, s, and peak of the resident memory, MB.
    parallel : float
        Part of the work that is shared among cores: n of them take
        ``1 - parallel + parallel / n`` of the time (G. M. Amdahl, AFIPS Conf. Proc. 30, 483
        (1967)).
    """

    seconds: Guess
    memory_mb: Guess
    parallel: float = Field(default=0.5, ge=0, le=1)

    def share(self, cores: int) -> float:
        """Part of the time of one core that so many cores take."""
        return 1 - self.parallel + self.parallel / max(1, cores)


UNKNOWN: Final = Start(
    seconds=Guess(size=10, value=30, exponent=2.5, spread=1.5),
    memory_mb=Guess(size=10, value=500, exponent=1.0, spread=0.7, lowest=0.0, highest=3.0),
)
"""Of a level that nobody told of; its size is the number of atoms."""


class Work(Model):
    """What is asked for by stages of one name and one level of theory.

    Attributes
    ----------
    stage : str
        Their name.
    level : LevelOfTheory
        Their level.
    task : TaskKind
        What they do.
    time_limit : float
        The longest of their limits, s.
    memory_mb : float
        The largest of theirs, MB.
    start : Start
        What its engine thinks.
    """

    stage: str
    level: LevelOfTheory
    task: TaskKind
    time_limit: float = Field(gt=0)
    memory_mb: float = Field(gt=0)
    start: Start


class Key(NamedTuple):
    """What a line is about; `EVERYWHERE` as partition: about all of them."""

    partition: str
    level_id: str
    stage: str

    @property
    def everywhere(self) -> "Key":
        """The same in all partitions together."""
        return self._replace(partition=EVERYWHERE)


class Observation(NamedTuple):
    """What one attempt cost; `size` is what `Engine.cost_size` makes of its formula."""

    key: Key
    size: float
    seconds: float
    memory_mb: float


class Line(Model):
    """A fit and what it is about."""

    partition: str
    level_id: str
    stage: str
    of: Of
    fit: Fit

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.partition, self.level_id, self.stage)


@dataclass(frozen=True)
class CostModel:
    """What is known of costs.

    Attributes
    ----------
    works : tuple of Work
        The stages that were known when it was learnt.
    lines : tuple of Line
        What was learnt of them.
    """

    works: tuple[Work, ...] = ()
    lines: tuple[Line, ...] = ()

    def work(self, level_id: str, stage: str) -> Work | None:
        """What is known of stages of this level and name."""
        return self._works.get((level_id, stage))

    def seconds(self, key: Key, size: float, cores: int = 1) -> Prediction:
        """Wall time, s.

        Parameters
        ----------
        key : Key
            Where, and of what. A partition without records is taken to be like the others.
        size : float
            As `Engine.cost_size` says; the number of atoms where `work` knows nothing.
        cores : int
            Threads and ranks; of start values only, for what was learnt contains them.
        """
        learnt = self._learnt(key, "seconds")
        if learnt:
            return learnt.predict(max(size, 1.0))
        start = self._start(key)
        return guessed(start.seconds).predict(max(size, 1.0)) * start.share(cores)

    def memory_mb(self, key: Key, size: float) -> Prediction:
        """Peak of the resident memory, MB, the same in all partitions; see `seconds`."""
        learnt = self._learnt(key, "memory_mb")
        line = learnt or guessed(self._start(key).memory_mb)
        return line.predict(max(size, 1.0))

    def as_document(self) -> dict[str, JsonValue]:
        """Plain values, for `Fleet.keep_costs`."""
        return {
            "version": VERSION,
            "works": [work.model_dump(mode="json") for work in self.works],
            "lines": [line.model_dump(mode="json") for line in self.lines],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, JsonValue]) -> "CostModel":
        """The model of a document; what cannot be read is as if never learnt."""
        if not isinstance(document, Mapping) or document.get("version") != VERSION:
            return cls()
        works = tuple(_read(Work, document.get("works")))
        return cls(works, tuple(_read(Line, document.get("lines"))))

    def _learnt(self, key: Key, of: Of) -> Fit | None:
        line = self._lines.get((key, of)) or self._lines.get((key.everywhere, of))
        return line.fit if line else None

    def _start(self, key: Key) -> Start:
        work = self.work(key.level_id, key.stage)
        return work.start if work else UNKNOWN

    @cached_property
    def _works(self) -> dict[tuple[str, str], Work]:
        return {(work.level.id, work.stage): work for work in self.works}

    @cached_property
    def _lines(self) -> dict[tuple[Key, Of], Line]:
        return {(line.key, line.of): line for line in self.lines}


def works(stages: Iterable[tuple[Stage, Start]]) -> tuple[Work, ...]:
    """Of all stages, those of one name and one level together."""
    found: dict[tuple[str, str], Work] = {}
    for stage, start in stages:
        before = found.get((stage.level.id, stage.name))
        found[stage.level.id, stage.name] = Work(
            stage=stage.name,
            level=stage.level,
            task=stage.task,
            time_limit=max(stage.time_limit, before.time_limit if before else 0),
            memory_mb=max(stage.memory_mb, before.memory_mb if before else 0),
            start=start,
        )
    return tuple(found[key] for key in sorted(found))


def learn(observations: Iterable[Observation], known: Iterable[Work]) -> CostModel:
    """Learn from what attempts cost; the order of observations does not matter.

    Stages that are not known are left out: nobody can say what sizes of theirs mean.
    """
    model = CostModel(tuple(known))
    grouped: dict[Key, list[Observation]] = defaultdict(list)
    for seen in observations:
        grouped[seen.key.everywhere].append(seen)
        grouped[seen.key].append(seen)
    lines = [
        line
        for key, group in sorted(grouped.items())
        if key.partition == EVERYWHERE
        if (work := model.work(key.level_id, key.stage)) is not None
        for line in _lines(key, group, grouped, work.start)
    ]
    return CostModel(model.works, tuple(lines))


def _lines(
    pooled: Key,
    group: Sequence[Observation],
    grouped: Mapping[Key, Sequence[Observation]],
    start: Start,
) -> Iterator[Line]:
    """Lines of all partitions together; of seconds one of each, which starts from what all tell.

    Memory is much the same everywhere. With one line for all, partitions agree on where there is
    enough of it, and no stage is left by each to another.
    """
    memory = _line(pooled, group, "memory_mb", start.memory_mb)
    if memory is not None:
        yield memory
    whole = _line(pooled, group, "seconds", start.seconds)
    if whole is None:
        return
    yield whole
    prior = known_elsewhere(whole.fit, start.seconds, PARTITION_SPREAD, PARTITION_EXPONENT)
    own = sorted({seen.key for seen in group})
    yield from filter(None, (_line(key, grouped[key], "seconds", prior) for key in own))


def _line(key: Key, group: Sequence[Observation], of: Of, guess: Guess) -> Line | None:
    """The line of a group; None where none of it was measured."""
    costs = [getattr(seen, of) for seen in group]
    found = fit([seen.size for seen in group], costs, guess)
    return Line(**key._asdict(), of=of, fit=found) if found.records else None


_Entry = TypeVar("_Entry", bound=Model)


def _read(kind: type[_Entry], entries: JsonValue | None) -> Iterator[_Entry]:
    for entry in entries if isinstance(entries, list) else ():
        try:
            yield kind.model_validate(entry)
        except ValidationError:
            continue
