"""Run fragments of examples/, learn from half of them, and print what is foreseen of the others.

Run it as ``OMP_NUM_THREADS=1 python tests/figures/costs.py``; about two minutes on one core. Each
engine is learnt twice: from every second fragment by size, and from the smaller half, which shows
what happens beyond what was seen.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Final, NamedTuple

from ase import Atoms
from ase.io import iread
from rich.console import Console
from rich.table import Table

from qfarm import config
from qfarm.costs.model import CostModel, Key, Observation, learn, works
from qfarm.engines import engine
from qfarm.engines.base import Exit, Job
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Stage
from qfarm_schemas.elements import counts
from qfarm_schemas.fragment import Fragment
from qfarm_workers.process import EngineProcess, Limits

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"

LARGER: Final = {"preopt": tuple(range(5)), "single_point": (2, 3)}
"""Fragments of larger.extxyz that are run besides the 13 small ones: glucose and Mg(H2O)6."""

LIMITS: Final = Limits(600.0, 16_000)


class Measured(NamedTuple):
    """What one fragment took."""

    name: str
    size: float
    seconds: float
    memory_mb: float


def main() -> None:
    """Measure, learn and print."""
    console = Console(width=120)
    with TemporaryDirectory() as folder, EngineProcess(Path(folder), threads=1) as process:
        for template in config.load_protocol("demo").stages:
            stage = next(filter(None, template.stages))
            found = sorted(measured(process, Path(folder), stage), key=lambda one: one.size)
            middle = len(found) // 2
            console.print(table("every second fragment", stage, found[::2], found[1::2]))
            console.print(table("the smaller half", stage, found[:middle], found[middle:]))


def measured(process: EngineProcess, folder: Path, stage: Stage) -> Iterator[Measured]:
    """Run all fragments of a stage."""
    used = engine(stage.level.engine)
    for number, atoms in enumerate(fragments(stage)):
        job = Job(fragment=fragment(atoms), stage=stage)
        scratch = folder / f"{stage.name}-{number}"
        scratch.mkdir()
        for name, text in used.write(job).items():
            (scratch / name).write_text(text)
        ended = process.run(used.run(job), scratch, LIMITS, Event())
        files = {path.name: path.read_text() for path in scratch.iterdir()}
        if isinstance(used.parse(job, files, Exit(ended.exit_code)), Failure):
            raise RuntimeError(f"{atoms.info['name']} failed")
        size = used.cost_size(stage.level, counts(str(atoms.symbols)))
        yield Measured(atoms.info["name"], size, ended.wall_seconds, ended.peak_memory_mb)


def fragments(stage: Stage) -> Iterator[Atoms]:
    """The 13 fragments of the demo, and some larger ones."""
    yield from iread(EXAMPLES / "fragments.extxyz")
    larger = tuple(iread(EXAMPLES / "larger.extxyz"))
    yield from (larger[number] for number in LARGER[stage.name])


def fragment(atoms: Atoms) -> Fragment:
    """A fragment, charge included."""
    charge = int(atoms.info["charge"])
    return Fragment(numbers=atoms.numbers, positions=atoms.positions, charge=charge)


def table(
    learnt_from: str, stage: Stage, known: Sequence[Measured], asked: Sequence[Measured]
) -> Table:
    """What was foreseen of the fragments that are asked for."""
    key, model = Key("here", stage.level.id, stage.name), model_of(stage, known)
    within = sum(one.seconds <= model.seconds(key, one.size).upper95 for one in asked)
    title = f"{stage.name} ({stage.level.engine}), learnt from {learnt_from}: {within} of "
    shown = Table(title=f"{title}{len(asked)} below the bound", title_justify="left")
    for heading in (
        "fragment",
        "size",
        "s",
        "foreseen",
        "ratio",
        "bound",
        "below",
        "MB",
        "foreseen",
    ):
        shown.add_column(heading, justify="left" if heading == "fragment" else "right")
    for one in asked:
        shown.add_row(*row(one, model, key))
    return shown


def row(one: Measured, model: CostModel, key: Key) -> tuple[str, ...]:
    """One fragment."""
    foreseen, memory = model.seconds(key, one.size), model.memory_mb(key, one.size)
    return (
        one.name,
        f"{one.size:.0f}",
        f"{one.seconds:.2f}",
        f"{foreseen.median:.2f}",
        f"{one.seconds / foreseen.median:.2f}",
        f"{foreseen.upper95:.2f}",
        "yes" if one.seconds <= foreseen.upper95 else "NO",
        f"{one.memory_mb:.0f}",
        f"{memory.median:.0f}",
    )


def model_of(stage: Stage, known: Sequence[Measured]) -> CostModel:
    """What is learnt from some fragments."""
    start = engine(stage.level.engine).start_costs(stage.level, stage.task)
    key = Key("here", stage.level.id, stage.name)
    seen = (Observation(key, one.size, one.seconds, one.memory_mb) for one in known)
    return learn(seen, works([(stage, start)]))


if __name__ == "__main__":
    main()
