"""Damage to output files: what a full disk, a killed process or a bug makes of them. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from qfarm import verdict
from qfarm.engines.base import Engine, Exit, Job
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import Result

Files = Mapping[str, str]
Damaged = tuple[str, str]
"""What was done, in words, and the text afterwards."""

NUMBER: Final = re.compile(r"(?<![\w.])[-+]?\d+\.\d*(?:[EeDd][-+]?\d+)?")
"""A number with a decimal point."""

GARBAGE: Final = ("NaN", "********", "1e300", "-1E+300", "Infinity", "garbage", "")


def cuts(text: str) -> Iterator[Damaged]:
    """The text cut before every line, and in the middle of the last one."""
    lines = text.rstrip().splitlines(keepends=True)
    end = 0
    for number, line in enumerate(lines):
        yield f"cut before line {number + 1}", text[:end]
        end += len(line)
    if lines:
        yield "cut in the last line", text[: end - (len(lines[-1]) + 1) // 2]


def sampled_cuts(
    text: str, markers: re.Pattern[str], every: int, around: int, last: int = 0
) -> Iterator[Damaged]:
    """Cuts before every so many lines, around each line with a marker, and before the last ones.

    For texts of thousands of lines; tests/figures/truncation.py tries every cut of them.
    """
    lines = text.rstrip().splitlines(keepends=True)
    marked = [number for number, line in enumerate(lines) if markers.search(line)]
    near = {number + step for number in marked for step in range(-around, around + 1)}
    end = 0
    for number, line in enumerate(lines):
        if number in near or number % every == 0 or number >= len(lines) - max(last, 1):
            yield f"cut before line {number + 1}", text[:end]
        end += len(line)
    if lines:
        yield "cut in the last line", text[: end - (len(lines[-1]) + 1) // 2]


def without_lines(text: str, numbers: Iterable[int]) -> Iterator[Damaged]:
    """The text without one line."""
    lines = text.splitlines(keepends=True)
    for number in numbers:
        yield f"without line {number + 1}", "".join(lines[:number] + lines[number + 1 :])


def with_doubled_lines(text: str, numbers: Iterable[int]) -> Iterator[Damaged]:
    """The text with one line twice."""
    lines = text.splitlines(keepends=True)
    for number in numbers:
        yield f"line {number + 1} twice", "".join(lines[: number + 1] + lines[number:])


def with_spoilt_numbers(
    text: str, numbers: Iterable[int], garbage: Iterable[str] = GARBAGE
) -> Iterator[Damaged]:
    """The text with the last number of one line replaced."""
    lines = text.splitlines(keepends=True)
    for number in numbers:
        found = list(NUMBER.finditer(lines[number]))
        for word in garbage if found else ():
            line = lines[number]
            spoilt = line[: found[-1].start()] + word + line[found[-1].end() :]
            yield (
                f"line {number + 1} says {spoilt.strip()!r}",
                "".join([*lines[:number], spoilt, *lines[number + 1 :]]),
            )


def accepted(job: Job, outcome: Result | Failure) -> Result | None:
    """The result, if the verdict would make a record of it."""
    if isinstance(outcome, Failure):
        return None
    checks = verdict.judge(verdict.Subject(outcome, job.stage, job.fragment))
    return outcome if all(check.passed for check in checks) else None


def wrongly_accepted(
    engine: Engine, job: Job, files: Files, file: str, damaged: Iterable[Damaged]
) -> list[str]:
    """What was done to `file` wherever a record came of it all the same."""
    return [
        f"{file} {what}"
        for what, text in damaged
        if accepted(job, engine.parse(job, {**files, file: text}, Exit(0)))
    ]


def with_other_numbers(
    engine: Engine,
    job: Job,
    files: Files,
    file: str,
    damaged: Iterable[Damaged],
    same: Callable[[Result], list[str]],
) -> list[str]:
    """What was done to `file` wherever a record came of it that has other numbers."""
    wrong = []
    for what, text in damaged:
        with np.errstate(all="ignore"):  # 1e300 eV/A overflows in a norm, and is refused
            found = accepted(job, engine.parse(job, {**files, file: text}, Exit(0)))
        differs = same(found) if found else []
        if differs:
            wrong.append(f"{file} {what}: {', '.join(differs)}")
    return wrong


def other_numbers(good: Result, found: Result) -> list[str]:
    """Names of the numbers in which an accepted result differs; what is None tells nothing."""
    return [
        name
        for name in ("energy", "forces", "positions", "dipole", "hirshfeld_ratios", "homo", "lumo")
        if getattr(found, name) is not None
        and not np.array_equal(getattr(found, name), getattr(good, name))
    ] + [
        f"{scheme} charges"
        for scheme, values in found.charges.items()
        if not np.array_equal(values, good.charges[scheme])
    ]
