"""Frames, files and protocols for the tests of intake."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from qfarm.intake.batch import Batch, read
from qfarm.intake.examine import Examiner, Refuse, Rejected
from qfarm.intake.frames import Frame, Lines, frames
from qfarm.intake.problem import Kind, Problem, Where
from qfarm.intake.spool import Spool
from qfarm.plan import Plan
from qfarm_schemas.config import LevelRule, Protocol, StageTemplate, TaskKind
from support.build import PBE0
from support.work import GFN2

PROTOCOL = Protocol(
    name="small",
    stages=(
        StageTemplate(name="preopt", task=TaskKind.OPTIMISATION, levels=(LevelRule(level=GFN2),)),
        StageTemplate(
            name="single_point",
            task=TaskKind.SINGLE_POINT,
            levels=(LevelRule(max_atoms=60, level=PBE0),),
        ),
    ),
)

WATER_ATOMS = ("O 0.0 0.0 0.119", "H 0.0 0.763 -0.477", "H 0.0 -0.763 -0.477")


def frame_text(comment: str = "", atoms: tuple[str, ...] = WATER_ATOMS) -> str:
    return "\n".join((str(len(atoms)), comment, *atoms)) + "\n"


def frame(comment: str = "", atoms: tuple[str, ...] = WATER_ATOMS) -> Frame:
    return Frame(Where("a.xyz", 1, 1), comment, atoms)


def cut(data: str | bytes) -> list[Frame | Problem]:
    raw = data.encode() if isinstance(data, str) else data
    return list(frames(Lines(BytesIO(raw)), "a.xyz"))


def examiner(refuse: Refuse = lambda _fragment, _stage: None, **fields: Any) -> Examiner:
    base: dict[str, Any] = {"protocol": PROTOCOL, "refuse": refuse}
    return Examiner(**(base | fields))


def problems(found: Plan | Rejected) -> Mapping[Kind, str]:
    """Problems of a rejected frame by kind; fails on a plan."""
    assert not isinstance(found, Plan), "the frame was accepted"
    return {problem.flaw.kind: str(problem) for problem in found.problems}


def read_file(path: Path, spool: Spool, known: frozenset[str] = frozenset()) -> Batch:
    return read([path], examiner(), spool, lambda keys: known & set(keys))
