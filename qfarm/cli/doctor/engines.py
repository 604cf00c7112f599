"""How the doctor looks at an engine: its parameter files, and a water molecule by it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qfarm import sites
from qfarm.cli.doctor import trial
from qfarm.cli.doctor.finding import Finding, Verdict
from qfarm.cli.doctor.setup import cure_of
from qfarm.cli.doctor.trial import WATER, Trial
from qfarm.cli.wording import counted, level_name
from qfarm.config import Farm
from qfarm.engines import engine as look_up
from qfarm.engines import standins
from qfarm.engines.base import Engine
from qfarm.sites import Missing
from qfarm.store.protocol import Need
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import EngineConfig, Partition, TaskKind
from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory

MOST_FILES = 12
"""Names of missing files that are shown."""

_STREAMS = ("stderr.txt", "stdout.txt")
_LAST = 3  # lines of output


@dataclass(frozen=True)
class Subject:
    """An engine as one partition's workers find it.

    Attributes
    ----------
    farm, engine, partition : Farm, Engine, Partition
        What is looked at.
    needs : tuple of Need
        What the queue asks of it.
    label : str
        Name in the table.
    asked : str
        Name of the engine of the levels; another than `engine`'s where that stands in for it.
    """

    farm: Farm
    engine: Engine
    partition: Partition
    needs: tuple[Need, ...]
    label: str
    asked: str

    @property
    def wanted(self) -> bool:
        """Whether somebody set the engine up, or queued work needs it."""
        return bool(self.needs) or self.in_table

    @property
    def in_table(self) -> bool:
        """Whether ``qfarm.toml`` has a table for it."""
        tables = {*self.partition.engines, *self.farm.config.engines}
        return not tables.isdisjoint({self.engine.name, self.asked})

    @property
    def setting(self) -> EngineConfig:
        """What ``qfarm.toml`` says of the engine."""
        return sites.settings(self.farm.config, self.partition, self.engine.name, self.asked)

    @property
    def elsewhere(self) -> bool:
        """Whether it computes on GPUs of a cluster, which this machine need not have."""
        return self.partition.scheduler != "local" and self.partition.gpus > 0

    def missing(self, fragment: Fragment, level: LevelOfTheory) -> Missing | None:
        """Parameter files that lack."""
        return sites.missing(self.farm, self.engine, fragment, level, self.partition)


def examine(
    farm: Farm, engine: Engine, partitions: Sequence[Partition], needs: tuple[Need, ...]
) -> Iterator[Finding]:
    """Look at an engine, once for each way in which partitions set it up."""
    for subject in _subjects(farm, engine, partitions, needs):
        files = _files(subject)
        if files is not None:
            yield files
        for finding in _trials(subject):
            said = files is not None and files.what == finding.what != ""
            if not said:  # that there is no folder is said once
                yield finding


def _subjects(
    farm: Farm, engine: Engine, partitions: Sequence[Partition], needs: tuple[Need, ...]
) -> list[Subject]:
    ways: dict[str, list[Partition]] = {}
    for partition in partitions:
        chosen = sites.settings(farm.config, partition, engine.name)
        ways.setdefault(chosen.model_dump_json(), []).append(partition)
    found = []
    for alike in ways.values():
        names = [partition.name for partition in alike]
        mine = tuple(need for need in needs if need.partition in (None, *names))
        used = look_up(standins.stand_in(farm.config, alike[0], engine.name))
        who = engine.name if used is engine else f"{engine.name} by {used.name}"
        label = f"{who} ({', '.join(names)})" if len(ways) > 1 else who
        found.append(Subject(farm, used, alike[0], mine, label, engine.name))
    return found


def _files(subject: Subject) -> Finding | None:
    """Parameter files for the elements of the queued fragments; None where none are needed."""
    asked = [(_molecule(some), need) for need in subject.needs for some in need.elements]
    known = [
        (fragment, need.level)
        for fragment, need in asked
        if subject.engine.refuse(fragment, need.level, need.task) is None
    ]
    used = {name for one in known for name in subject.engine.parameters(*one).names}
    if not used:
        return None
    lacks = [lack for one in known if (lack := subject.missing(*one)) is not None]
    check = f"{subject.label}: parameter files"
    if lacks:
        return _lacking(subject, check, lacks)
    elements = sorted({z for fragment, _ in known for z in fragment.numbers.tolist()})
    symbols = " ".join(SYMBOLS[z] for z in elements)
    place = sites.folder(subject.farm, subject.setting)
    return Finding(check, f"{counted(len(used), 'file')} for {symbols} in {place}")


def _molecule(elements: frozenset[int]) -> Fragment:
    """Two atoms of each element: an even number of electrons, so that no engine objects."""
    numbers = sorted(elements) * 2
    return Fragment(numbers=numbers, positions=[[3.0 * i, 0.0, 0.0] for i in range(len(numbers))])


def _lacking(subject: Subject, check: str, lacks: Sequence[Missing]) -> Finding:
    files = sorted({file for lack in lacks for file in lack.files})
    if not files:
        cure = _cure(subject, lacks[0])
        return Finding(check, "none", Verdict.FAULT, lacks[0].what, cure)
    shown = ", ".join(files[:MOST_FILES])
    more = f" and {len(files) - MOST_FILES} more" if files[MOST_FILES:] else ""
    place = sites.folder(subject.farm, subject.setting)
    what = f"the queued fragments need {shown}{more}, which the folder {place} lacks"
    found = f"{counted(len(files), 'file')} missing"
    cure = next(lack.remedy for lack in lacks if lack.files)
    return Finding(check, found, Verdict.FAULT, what, cure)


def _cure(subject: Subject, lack: Missing) -> str:
    """Of missing files; for an engine that nobody set up, all lines at once."""
    if subject.setting == EngineConfig():
        return cure_of(subject.engine, subject.partition, None, subject.in_table)
    return lack.remedy


def _trials(subject: Subject) -> Iterator[Finding]:
    """Compute water at each level that is asked for; one trial tells that the program is away."""
    for level in trial.levels(subject.engine, subject.needs, subject.missing):
        finding, away = _tried(subject, level)
        yield finding
        if away:
            return


def _tried(subject: Subject, level: LevelOfTheory) -> tuple[Finding, bool]:
    """What came of a level, and whether the engine is not there at all."""
    lack = subject.missing(WATER, level)
    if lack is not None:
        return _without_files(subject, lack), not lack.files
    refused = subject.engine.refuse(WATER, level, TaskKind.SINGLE_POINT)
    if refused is not None:
        what = f"it refuses water at {level_name(level)}: {refused}"
        return _broken(subject, what, "Correct the level of theory in the protocol."), False
    try:
        tried = trial.run(subject.farm, subject.engine, subject.partition, level)
    except OSError as error:
        what = f"it was not tried: no scratch folder could be made ({error})"
        return _broken(subject, what, "Cure the scratch space first."), True
    return _judged(subject, level, tried)


def _without_files(subject: Subject, lack: Missing) -> Finding:
    """Water cannot be tried; what the queue lacks is said elsewhere, and may be other elements."""
    cure = _cure(subject, lack)
    if subject.needs and lack.files:
        what = f"no water molecule was tried: {lack.what}"
        return Finding(subject.label, "not tried", Verdict.WARNING, what, cure)
    return _absent(subject, "no parameter files", lack.what, cure)


def _judged(subject: Subject, level: LevelOfTheory, tried: Trial) -> tuple[Finding, bool]:
    outcome, water = tried.outcome, f"water at {level_name(level)}"
    if not isinstance(outcome, Failure):
        found = f"{tried.version}: {water} in {tried.seconds:.1f} s"
        return Finding(subject.label, found), False
    if tried.away:
        command = subject.setting.command
        cure = cure_of(subject.engine, subject.partition, command, subject.in_table)
        return _absent(subject, "not found", outcome.cause, cure), True
    said = " | ".join(_last_lines(outcome))
    what = f"{water} failed: {outcome.cause}" + (f"; its last words: {said}" if said else "")
    kept = outcome.evidence.get("scratch folder")
    cure = f"{outcome.remedy}\nInput and output: {kept}" if kept else outcome.remedy
    return _broken(subject, what, cure), False


def _absent(subject: Subject, found: str, what: str, cure: str) -> Finding:
    verdict = Verdict.FAULT if subject.wanted else Verdict.NOT_SET_UP
    if subject.wanted and subject.elsewhere:
        verdict, cure = Verdict.WARNING, f"{_ON_NODES}\n{cure}"
    return Finding(subject.label, found, verdict, what, cure)


def _broken(subject: Subject, what: str, cure: str) -> Finding:
    verdict = Verdict.FAULT if subject.wanted else Verdict.WARNING
    return Finding(subject.label, "does not work", verdict, what, cure)


def _last_lines(failure: Failure) -> list[str]:
    for name in _STREAMS:
        lines = [line.strip() for line in str(failure.evidence.get(name, "")).splitlines()]
        if any(lines):
            return [line for line in lines if line][-_LAST:]
    return []


_ON_NODES = "If this machine has no GPU, that is no fault: each job tries its engines on its node."
