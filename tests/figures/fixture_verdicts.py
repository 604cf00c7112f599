"""The verdict on every recorded output of FHI-aims and DFTB+, beside the one that must come out.

Run ``python tests/figures/fixture_verdicts.py``. Energies and forces, of refused outputs too, are
compared with those that other code than qfarm's read from the same files. Exit code 1 if any
verdict differs.
"""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.engine_cases import CASES
from conformance.engine_recordings import recordings
from conformance.engine_runs import kind_of
from qfarm import verdict
from qfarm.engines import engine
from qfarm.engines.aims.output import read as aims_read
from qfarm.engines.dftbplus.tags import read as tags_of
from qfarm.engines.dftbplus.tags import scalar, vectors
from qfarm_schemas.attempt import Failure
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.result import Result
from qfarm_schemas.units import DFTBPLUS_BOHR, DFTBPLUS_HARTREE
from support.recorded import Recorded

HEAD = ("recording", "version", "expected", "verdict", "first missed", "energy, eV", "|dE|, eV")
VERSION = re.compile(r"(?:FHI-aims version\s+:|DFTB\+ release|^ +Version)\s+(\S+)", re.MULTILINE)
WIDTHS = (58, 10, 22, 22, 26, 20, 8)


def main() -> int:
    """Print the table; 1 if any verdict differs."""
    wrong = 0
    for name in (name for name, case in CASES.items() if case.recorded):
        print(f"\n{name}: {len(recordings(name))} outputs")
        print(*(f"{word:<{width}}" for word, width in zip(HEAD, WIDTHS, strict=True)), "max |dF|")
        wrong += sum(_line(name, one) for one in recordings(name))
    print(f"\n{wrong} verdicts differ from the expected ones")
    return int(wrong > 0)


def _line(name: str, one: Recorded) -> bool:
    """Print one recording; whether its verdict differs."""
    outcome = engine(name).parse(one.job, one.files, one.ended)
    kind = kind_of(one.job, outcome)
    energy, forces = _numbers(name, one)
    words = (
        one.name,
        _version(one),
        _word(one.kind),
        _word(kind) + ("" if kind is one.kind else "  <-- DIFFERS"),
        _first_missed(one, outcome),
        "" if energy is None else f"{energy:.9f}",
        _off(energy, one.energy),
    )
    off = _off(forces, one.forces)
    print(*(f"{word:<{width}}" for word, width in zip(words, WIDTHS, strict=True)), off)
    return kind is not one.kind


def _numbers(name: str, one: Recorded) -> tuple[float | None, Any]:
    """Energy, eV, and forces, eV/A, as the engine's readers find them, refused or not."""
    if name == "aims":
        output = aims_read(one.files["stdout.txt"])
        return output.energy, output.forces
    tags = tags_of(one.files.get("results.tag", ""))
    energy = scalar(tags, "mermin_energy")
    forces = vectors(tags, "forces", one.job.fragment.n_atoms)
    return (
        None if energy is None else energy * DFTBPLUS_HARTREE,
        None if forces is None else forces * DFTBPLUS_HARTREE / DFTBPLUS_BOHR,
    )


def _version(one: Recorded) -> str:
    """As the output says it; the aims excerpt has no banner."""
    found = VERSION.search(one.files["stdout.txt"])
    return found[1] if found else ""


def _word(kind: FailureKind | None) -> str:
    return "accepted" if kind is None else kind.value


def _first_missed(one: Recorded, outcome: Result | Failure) -> str:
    checks: tuple[Check, ...] = outcome.checks
    if isinstance(outcome, Result):
        checks = verdict.judge(verdict.Subject(outcome, one.job.stage, one.job.fragment))
    return next((check.name for check in checks if not check.passed), "")


def _off(found: Any, reference: Any) -> str:
    """Largest difference; nothing where either is missing."""
    if found is None or reference is None or np.shape(found) != np.shape(reference):
        return ""
    return f"{np.abs(np.asarray(found) - np.asarray(reference)).max():.1e}"


if __name__ == "__main__":
    sys.exit(main())
