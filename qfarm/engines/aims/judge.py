"""Judge: what an output of FHI-aims must say before its numbers are believed. Pure.

Three groups of named checks, in this order, because the first one missed says what kind of failure
it is: how the run ended (`of_run`), whether it computed what the job asked for (`of_task`), whether
every number is there (`of_numbers`). The four SCF thresholds are the verdict's business.
"""

from collections.abc import Mapping
from typing import Final

from qfarm.engines.aims.checks import BAD, CRASH, SMALL_GAP, SPIN, STATE, check
from qfarm.engines.aims.judge_numbers import of_numbers
from qfarm.engines.aims.judge_task import of_task
from qfarm.engines.aims.output import Output, aborts, run, scf
from qfarm.engines.base import Exit, Job
from qfarm.verdict import LOOK
from qfarm_schemas.check import Check
from qfarm_schemas.failure import FailureKind

__all__ = ["OUTPUT_NAME", "of_numbers", "of_run", "of_task"]

OUTPUT_NAME: Final = "stdout.txt"

ERRORS_NAME: Final = "stderr.txt"


def of_run(job: Job, output: Output, files: Mapping[str, str], ended: Exit) -> tuple[Check, ...]:
    """How the run began and ended."""
    return (
        _no_abort(job, output, files),
        _no_warning(output),
        _one_start(output),
        _exit_code(ended),
        _fresh(ended),
        _end(output),
        _converged(output),
    )


def _no_abort(job: Job, output: Output, files: Mapping[str, str]) -> Check:
    said = output.abort
    told = run.ended_well(output.page) or job.overlap.get("override_illconditioning")
    bad_overlap = not told and aborts.ill_conditioned(output.text, files.get(ERRORS_NAME, ""))
    meaning = aborts.ILL_CONDITIONED if bad_overlap else aborts.meaning(said) if said else None
    kind, remedy = (meaning.kind, meaning.remedy) if meaning else (FailureKind.CRASHED, CRASH)
    if kind is FailureKind.SCF_NOT_CONVERGED:
        kind, remedy = _scf_kind(output)
    words = str(said) if said else "ill-conditioned overlap matrix" if bad_overlap else "none"
    return check("error message", meaning is None, "none", words, kind, remedy)


def _no_warning(output: Output) -> Check:
    warned = run.warned(output.text)
    found = f"not converged in {_iterations(output)}{_gap_words(output)}" if warned else "none"
    return check("SCF warning", not warned, "none", found, *_scf_kind(output))


def _one_start(output: Output) -> Check:
    kind = BAD if output.starts else FailureKind.CRASHED
    remedy = LOOK if output.starts else CRASH
    found = f"{output.starts} ({run.START!r})"
    return check("runs in the output", output.starts == 1, "1", found, kind, remedy)


def _exit_code(ended: Exit) -> Check:
    passed = ended.code == 0
    return check("exit code", passed, "0", str(ended.code), FailureKind.CRASHED, CRASH)


def _fresh(ended: Exit) -> Check:
    found = ", ".join(ended.stale) or "fresh"
    return check("folder", not ended.stale, "fresh", found, BAD, LOOK)


def _end(output: Output) -> Check:
    passed = run.ended_well(output.page)
    if passed:
        found = "said"
    elif not output.page.count(run.END):
        found = f"the output ends after {_iterations(output)} without it"
    else:
        found = "more output follows it"
    return check("end of the output", passed, repr(run.END), found, FailureKind.CRASHED, CRASH)


def _converged(output: Output) -> Check:
    times = output.page.count(scf.CONVERGED)
    if times > 1:
        found = f"said {times} times: a relaxation or several geometries, no single point"
        return check("SCF", False, "converged once", found)
    passed = scf.converged_last(output.page)
    state = "converged" if passed else "not converged"
    found = f"{state} in {_iterations(output)}{'' if passed else _gap_words(output)}"
    return check("SCF", passed, "converged once", found, *_scf_kind(output))


def _scf_kind(output: Output) -> tuple[FailureKind, str]:
    if output.gap is not None and output.gap < SMALL_GAP:
        return FailureKind.NO_GAP, SPIN
    return FailureKind.SCF_NOT_CONVERGED, STATE


def _iterations(output: Output) -> str:
    count = len(output.trace)
    return f"{count} iteration{'' if count == 1 else 's'}"


def _gap_words(output: Output) -> str:
    return "" if output.gap is None else f" (HOMO-LUMO gap {output.gap:.2f} eV)"
