"""Models survive the way into BSON and back, whatever they hold."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import bson
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from qfarm.store.codec import decode, encode, encode_flat
from qfarm_schemas.attempt import Attempt, Failure, Worker
from qfarm_schemas.config import Stage
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.result import Result
from support.build import WATER, WORKER, attempt, failure, result, stage

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


def through(document: dict[str, Any]) -> dict[str, Any]:
    """As MongoDB hands it back."""
    return bson.decode(bson.encode(document))


@given(st.integers(1, 40).flatmap(lambda n: st_numpy.arrays(np.float64, (n, 3), elements=FINITE)))
def test_arrays_are_exact_to_the_last_bit(positions: Any) -> None:
    numbers = np.full(len(positions), 6)
    base = result(numbers=numbers, positions=positions, forces=positions, hirshfeld_ratios=None)
    back = decode(Result, through(encode(base)))
    assert back.positions.tobytes() == base.positions.tobytes()
    assert back.positions.dtype == np.float64
    assert back.numbers.dtype == np.int64
    assert back.forces.shape == (len(positions), 3)


def test_an_array_is_a_small_document() -> None:
    assert encode(WATER)["positions"] == {
        "dtype": "<f8",
        "shape": [3, 3],
        "data": np.asarray(WATER.positions).tobytes(),
    }


def test_fragment_and_stage_keep_their_hash() -> None:
    assert decode(Fragment, through(encode(WATER))).id == WATER.id
    assert decode(Stage, through(encode(stage()))).id == stage().id


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.integers(-12, 12),
)
def test_times_keep_their_microseconds_in_any_zone(naive: datetime, offset: int) -> None:
    started = naive.replace(tzinfo=timezone(timedelta(hours=offset)))
    before = WORKER.model_copy(update={"started": started})
    document = through(encode(before))
    assert decode(Worker, document) == before
    assert document["started"].endswith("+00:00")


@given(st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), min_size=2))  # noqa: DTZ001
def test_times_sort_as_text(naive: list[datetime]) -> None:
    times = [time.replace(tzinfo=UTC) for time in naive]
    texts = [encode(WORKER.model_copy(update={"started": time}))["started"] for time in times]
    assert sorted(texts) == [text for _, text in sorted(zip(times, texts, strict=True))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text().filter(lambda t: "\0" not in t), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda t: "\0" not in t), JSON))
def test_evidence_of_any_kind_comes_back(evidence: dict[str, Any]) -> None:
    failed = Failure(kind=FailureKind.CRASHED, cause="c", evidence=evidence)
    before = attempt(failed)
    assert decode(Attempt, through(encode(before))) == before


@pytest.mark.parametrize(
    ("value", "kept"),
    [("\ud800 tail", "\\ud800 tail"), (2**80, str(2**80)), (-(2**63) - 1, str(-(2**63) - 1))],
)
def test_what_bson_cannot_hold_is_written_as_text(value: Any, kept: str) -> None:
    failed = Failure(kind=FailureKind.CRASHED, cause="c", evidence={"output": value})
    back = decode(Attempt, through(encode(attempt(failed))))
    assert isinstance(back.outcome, Failure)
    assert back.outcome.evidence == {"output": kept}


def test_a_key_with_nul_does_not_stop_a_commit() -> None:
    failed = Failure(kind=FailureKind.CRASHED, cause="c", evidence={"a\0b": 1})
    back = decode(Attempt, through(encode(attempt(failed))))
    assert isinstance(back.outcome, Failure)
    assert back.outcome.evidence == {"a\\0b": 1}


def test_a_changed_document_is_not_read() -> None:
    good = encode(attempt(failure(FailureKind.CRASHED)))
    for change in ({"extra": 1}, {"number": 0}, {"outcome": {"status": "success", "kind": "x"}}):
        with pytest.raises(ValueError, match="validation error"):
            decode(Attempt, good | change)


@pytest.mark.parametrize("fragment", [WATER, WATER.model_copy(update={"tags": ("a", "é")})])
def test_a_flat_model_has_the_same_document(fragment: Fragment) -> None:
    assert len(fragment.id) == 65  # a cached property is no field
    assert str(encode_flat(fragment)) == str(encode(fragment))
