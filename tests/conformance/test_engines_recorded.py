"""Recorded outputs of the real programs: each verdict, and cuts of the long ones."""

from functools import partial

import numpy as np
import pytest

from conformance.engine_cases import CASES, Case, up_to_farewell
from conformance.engine_damage import (
    accepted,
    cuts,
    other_numbers,
    sampled_cuts,
    with_other_numbers,
    with_spoilt_numbers,
    wrongly_accepted,
)
from conformance.engine_recordings import good_ones, recordings
from conformance.engine_runs import kind_of
from qfarm.engines import engine
from qfarm.engines.base import Engine
from qfarm_schemas.attempt import Failure
from qfarm_schemas.result import Result
from support.recorded import Recorded

LONG, EVERY, AROUND, LAST = 100, 400, 1, 15
"""Lines above which cuts are sampled; from cut to cut; around a marker; at the end."""

PROGRAMS = sorted(name for name, case in CASES.items() if case.recorded)


@pytest.fixture(scope="session", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_every_program_has_recordings() -> None:
    assert {name for name in CASES if engine(name).command} == set(PROGRAMS)
    for name in PROGRAMS:
        assert good_ones(name), name
        assert len(recordings(name)) > len(good_ones(name)), name


def test_every_recording_has_its_verdict(program: str) -> None:
    chosen, differs = engine(program), {}
    for one in recordings(program):
        outcome = chosen.parse(one.job, one.files, one.ended)
        kind = kind_of(one.job, outcome)
        if kind is not one.kind:
            differs[one.name] = (kind, one.kind, outcome)
    assert not differs


def test_the_numbers_of_recordings_are_those_that_others_read(program: str) -> None:
    for one in good_ones(program):
        found = result_of(one, engine(program))
        assert found.energy == pytest.approx(one.energy, abs=1e-6), one.name
        if one.forces is not None:
            np.testing.assert_allclose(found.forces, one.forces, atol=1e-6, err_msg=one.name)


def test_a_refused_recording_says_why(program: str) -> None:
    for one in recordings(program):
        outcome = engine(program).parse(one.job, one.files, one.ended)
        if isinstance(outcome, Failure):
            assert outcome.cause, one.name
            assert outcome.remedy, one.name
            assert all(check.remedy for check in outcome.checks if not check.passed), one.name


def test_no_cut_recording_is_accepted(program: str) -> None:
    case, chosen = CASES[program], engine(program)
    for one in good_ones(program):
        for file in essential(case, one):
            text = up_to_farewell(case, file, one.files[file])
            long = len(text.splitlines()) > LONG
            sample = sampled_cuts(text, case.markers, EVERY, AROUND, LAST)
            some = sample if long else cuts(text)
            assert not wrongly_accepted(chosen, one.job, one.files, file, some), one.name


def test_no_spoilt_number_near_a_marker_changes_a_recording(program: str) -> None:
    case, chosen = CASES[program], engine(program)
    for one in good_ones(program):
        good = result_of(one, chosen)
        for file in essential(case, one):
            lines = one.files[file].splitlines()
            near = [i for i, line in enumerate(lines) if case.markers.search(line)][-20:]
            spoilt = with_spoilt_numbers(one.files[file], near, ["NaN", "1e300", "*****"])
            same = partial(other_numbers, good)
            assert not with_other_numbers(chosen, one.job, one.files, file, spoilt, same), one.name


def essential(case: Case, one: Recorded) -> list[str]:
    return [*case.outputs, *(name for name in case.geometry if name in one.files)]


def result_of(one: Recorded, chosen: Engine) -> Result:
    outcome = chosen.parse(one.job, one.files, one.ended)
    assert isinstance(outcome, Result), (one.name, outcome)
    assert accepted(one.job, outcome), one.name
    return outcome
