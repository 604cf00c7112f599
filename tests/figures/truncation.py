"""Every good output cut before its lines: how many cuts were tried, how many became records.

Run ``python tests/figures/truncation.py [--all] [ENGINE ...]``. Good outputs are a water molecule
by each engine (by the doubles where the program is not there), and every recording that is
accepted. JSON is cut at every byte, text before every line; of a text of more than `LONG` lines
every fifth cut is tried, all near its end and all around its markers, with ``--all`` every one.
Exit code 1 if any cut is accepted.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.engine_cases import CASES, Case, up_to_farewell
from conformance.engine_damage import Damaged, accepted, cuts, sampled_cuts, wrongly_accepted
from conformance.engine_recordings import good_ones
from conformance.engine_runs import make_job, run
from qfarm.engines import engine
from qfarm.engines.base import Exit, Job

LONG, EVERY, AROUND, LAST = 1000, 5, 3, 300
"""Lines: of a long text; from cut to cut; around a marker; at the end."""


@dataclass(frozen=True)
class Good:
    """An output that is accepted whole."""

    name: str
    job: Job
    files: Mapping[str, str]


def main(arguments: list[str]) -> int:
    """Print the table; 1 if any cut is accepted."""
    chosen, wrong = [word for word in arguments if word != "--all"] or sorted(CASES), 0
    print(
        f"{'engine':<10}{'output':<58}{'file':<14}{'cuts':>7}{'of':>7}{'accepted':>10}{'CPU s':>9}"
    )
    for name in chosen:
        for good in _goods(name):
            for file in (*CASES[name].outputs, *CASES[name].geometry):
                if file in good.files:
                    wrong += _line(name, good, file, "--all" in arguments)
    print(f"\n{wrong} cuts were accepted; {time.process_time():.0f} CPU s")
    return int(wrong > 0)


def _goods(name: str) -> Iterator[Good]:
    yield from _of_water(name, CASES[name])
    for one in good_ones(name):
        yield Good(one.name, one.job, one.files)


def _of_water(name: str, case: Case) -> Iterator[Good]:
    for task in case.tasks:
        with tempfile.TemporaryDirectory() as folder:
            made = run(engine(name), make_job(case, task), Path(folder))
        yield Good(f"water, {task.value}", made.job, made.files)


def _line(name: str, good: Good, file: str, every: bool) -> int:
    """Print one file of an output; how many of its cuts were accepted."""
    outcome = engine(name).parse(good.job, good.files, Exit(0))
    assert accepted(good.job, outcome), (good.name, outcome)
    began = time.process_time()
    text = up_to_farewell(CASES[name], file, good.files[file])
    tried, wrong = 0, []
    for damaged in _cuts(CASES[name], file, text, every):  # one at a time: each is a whole output
        tried += 1
        wrong += wrongly_accepted(engine(name), good.job, good.files, file, [damaged])
    possible = len(text.rstrip()) if file.endswith(".json") else len(text.rstrip().splitlines()) + 1
    seconds = time.process_time() - began
    counts = f"{tried:>7}{possible:>7}{len(wrong):>10}{seconds:>9.2f}"
    print(f"{name:<10}{good.name:<58}{file:<14}{counts}", *wrong[:3], flush=True)
    return len(wrong)


def _cuts(case: Case, file: str, text: str, every: bool) -> Iterator[Damaged]:
    if file.endswith(".json"):
        whole = text.rstrip()
        return ((f"cut at {end}", whole[:end]) for end in range(len(whole)))
    if every or len(text.splitlines()) <= LONG:
        return cuts(text)
    return sampled_cuts(text, case.markers, EVERY, AROUND, LAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
