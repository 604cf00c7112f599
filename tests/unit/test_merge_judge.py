"""What becomes of each stage that two farms know: nothing done here is touched."""

import math

import numpy as np
import pytest

from qfarm.store.merge.judge import Difference, Kind, Numbers, Ours, difference, judge
from qfarm.store.protocol import StageState

DONE = Ours(StageState.DONE, True)
WAITING, READY, RUNNING, FAILED, CANCELLED = (
    Ours(state, False)
    for state in (
        StageState.WAITING,
        StageState.READY,
        StageState.RUNNING,
        StageState.FAILED,
        StageState.CANCELLED,
    )
)
RERUN = Ours(StageState.READY, True)


def differing(shift: float) -> Ours:
    return Ours(StageState.DONE, True, Difference(1e-3, 1e-2, shift))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([DONE, DONE], [True, True], "same same"),
        ([DONE, DONE], [True, False], "same ours"),
        ([DONE, DONE], [False, False], "ours ours"),
        ([READY, WAITING], [False, False], "open open"),
        ([READY, WAITING], [True, False], "adopted open"),
        ([READY, WAITING], [True, True], "adopted adopted"),
        ([FAILED, WAITING], [True, True], "adopted adopted"),
        ([CANCELLED, CANCELLED], [True, True], "adopted adopted"),
        ([DONE, FAILED], [True, True], "same adopted"),
        ([RUNNING, WAITING], [True, True], "running running"),
        ([RUNNING, WAITING], [False, False], "open open"),
        ([DONE, RUNNING], [True, True], "same running"),
        ([READY, RUNNING], [True, True], "adopted running"),
        ([differing(0.1), READY], [True, True], "different apart"),
        ([differing(0.1), RUNNING], [True, True], "different apart"),
        ([differing(0.1), READY], [True, False], "different open"),
        ([differing(0.0), READY], [True, True], "different adopted"),
        ([differing(2e-10), READY], [True, True], "different apart"),
        ([differing(math.nan), READY], [True, True], "different apart"),
        ([differing(0.1), DONE, READY], [True, True, True], "different same apart"),
        ([RERUN, WAITING], [True, True], "same adopted"),
    ],
)
def test_stages(ours: list[Ours], theirs: list[bool], expected: str) -> None:
    assert " ".join(found.kind for found in judge(ours, theirs)) == expected


def test_difference_goes_with_the_judgement() -> None:
    (found,) = judge([differing(0.1)], [True])
    assert (found.kind, found.difference) == (Kind.DIFFERENT, Difference(1e-3, 1e-2, 0.1))


def test_difference_is_the_largest_of_each() -> None:
    mine = Numbers(energy=-1.0, positions=np.zeros((2, 3)), forces=np.zeros((2, 3)))
    moved = np.array([[0.0, 0.1, 0.0], [0.0, 0.0, -0.3]])
    their = Numbers(energy=-1.5, positions=moved, forces=-2 * moved)
    assert difference(mine, their) == Difference(0.5, 0.6, 0.3)


def test_other_atoms_are_infinitely_far() -> None:
    mine = Numbers(energy=0.0, positions=np.zeros((2, 3)), forces=np.zeros((2, 3)))
    their = Numbers(energy=0.0, positions=np.zeros((3, 3)), forces=np.zeros((3, 3)))
    assert difference(mine, their) == Difference(0.0, math.inf, math.inf)
