"""A cut or garbled output of DFTB+ must not be accepted, and nothing may raise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfarm.engines.base import Exit
from qfarm.engines.dftbplus import ENGINE, detailed, gen, stdout, tags
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.result import Result
from support.dftbplus_fixtures import chosen
from support.recorded import Recorded

READ = ("results.tag", "detailed.out", "stdout.txt", "geo_end.gen")
CASES = ("water2_sp", "water2_opt_lbfgs_new")

LOSES_NOTHING = {"results.tag": 2, "detailed.out": 2, "stdout.txt": 0, "geo_end.gen": 0}
"""Last lines that hold nothing read: the scaled dipole; blank lines."""

EVERY = {("water2_opt_lbfgs_new", "stdout.txt"): 10}
"""Cuts are tried at every line, but in this long file at every tenth."""


def with_file(case: Recorded, name: str, text: str) -> Success | Failure:
    found = ENGINE.parse(case.job, {**case.files, name: text}, case.ended)
    if isinstance(found, Failure):
        return found
    return outcome(judge(Subject(found, case.job.stage, case.job.fragment)))


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("case_name", CASES)
def test_cut_at_a_line_is_refused(case_name: str, name: str) -> None:
    case = chosen(case_name)
    lines = case.files.get(name, "").splitlines(keepends=True)
    needed = len(lines) - LOSES_NOTHING[name]
    tail = range(max(0, needed - 25), needed)
    for length in {*range(0, needed, EVERY.get((case_name, name), 1)), *tail}:
        found = with_file(case, name, "".join(lines[:length]))
        assert isinstance(found, Failure), f"{name} cut after line {length} was accepted"


def test_cut_of_what_is_not_needed_is_accepted() -> None:
    case = chosen("water2_sp")
    for name in ("results.tag", "detailed.out"):
        lines = case.files[name].splitlines(keepends=True)
        assert with_file(case, name, "".join(lines[: -LOSES_NOTHING[name]])) == Success()


def test_cut_within_the_last_needed_line_is_refused() -> None:
    case = chosen("water2_sp")
    text = case.files["results.tag"]
    end = text.index("scaled_dipole") - 1
    for length in range(end - 80, end):
        assert isinstance(with_file(case, "results.tag", text[:length]), Failure)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("results.tag", "-0.815015379104731E+001", "-0.815115379104731E+001"),
        ("results.tag", "0.280334884476806E-002", "0.280334984476806E-002"),
        ("results.tag", "0.357211089147915E+000", "0.357211989147915E+000"),
        ("results.tag", "0.965608363461808E+000", "0.965618363461808E+000"),
        ("results.tag", "0.160000000000000E+002", "0.150000000000000E+002"),
        ("results.tag", "0.280334884476806E-002", "NaN"),
        ("results.tag", "0.280334884476806E-002", "***********************"),
        ("detailed.out", "Dispersion energy:                  -0.0009789523", "Dispersion x: -0.1"),
        ("detailed.out", "-0.0009789523", "-0.0009799523"),
        ("detailed.out", "6.16344057", "6.16344067"),
        ("detailed.out", "SCC converged", "SCC is NOT converged"),
        ("detailed.out", "SCC converged", ""),
        ("stdout.txt", "free energy:           -8.1501537910", "free energy:    -8.1501637910"),
        ("stdout.txt", "Parser version: 14", "Parser version: 12"),
    ],
)
def test_contradiction_is_refused(name: str, old: str, new: str) -> None:
    case = chosen("water2_sp")
    assert old in case.files[name]
    assert isinstance(with_file(case, name, case.files[name].replace(old, new)), Failure)


@pytest.mark.parametrize("name", ["detailed.out", "stdout.txt"])
def test_unconverged_geometry_is_refused_by_each_file(name: str) -> None:
    case = chosen("water2_opt_lbfgs_new")
    text = case.files[name].replace("Geometry converged", "!!! Geometry did NOT converge!")
    assert isinstance(with_file(case, name, text), Failure)


@pytest.mark.parametrize(
    ("asked_by", "left_by"),
    [("water2_sp", "water2_sp_nombd"), ("water2_sp_nombd", "water2_sp")],
)
def test_dispersion_other_than_asked_is_refused(asked_by: str, left_by: str) -> None:
    asked, left = chosen(asked_by), chosen(left_by)
    found = ENGINE.parse(asked.job, left.files, left.ended)
    assert isinstance(found, Result | Failure)
    assert "dispersion" in [c.name for c in found.checks if not c.passed]


def test_numbers_of_another_geometry_are_refused() -> None:
    case = chosen("water2_sp")
    moved = case.job.fragment.positions + np.array([[0.0, 0.0, 1e-5]] + [[0.0] * 3] * 5)
    job = case.job.model_copy(
        update={"fragment": case.job.fragment.model_copy(update={"positions": moved})}
    )
    found = ENGINE.parse(job, case.files, case.ended)
    assert isinstance(found, Result)
    assert [check.name for check in found.checks if not check.passed] == ["dipole"]


@given(text=st.text(), name=st.sampled_from(READ), case_name=st.sampled_from(CASES))
@settings(deadline=None, max_examples=50)
def test_garbage_is_refused(text: str, name: str, case_name: str) -> None:
    case = chosen(case_name)
    if name in case.files:
        assert isinstance(with_file(case, name, text), Failure)


@given(data=st.data(), name=st.sampled_from(READ[:3]))
@settings(deadline=None, max_examples=100)
def test_damage_never_raises(data: st.DataObject, name: str) -> None:
    case = chosen("water2_opt_lbfgs_new")
    text = case.files[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    damage = data.draw(st.text("0123456789E+-.: \nNaInf*,", max_size=50))
    with_file(case, name, text[:start] + damage + text[end:])


@given(texts=st.dictionaries(st.sampled_from(READ), st.text()), code=st.integers(-64, 255))
@settings(deadline=None, max_examples=50)
def test_nothing_but_garbage_never_raises(texts: dict[str, str], code: int) -> None:
    case = chosen("water2_sp")
    assert isinstance(ENGINE.parse(case.job, texts, Exit(code)), Failure)


@given(text=st.text("0123456789E+-.: \nCOHNaInf*,tags_real"))
def test_readers_never_raise(text: str) -> None:
    tags.read(text)
    gen.read(text)
    detailed.read(text)
    stdout.energy_change(tuple(i for step in stdout.read(text).steps for i in step.iterations))
