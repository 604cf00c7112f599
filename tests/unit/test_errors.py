"""Errors: what a user reads survives the way from a worker process."""

import pickle

import pytest

from qfarm import errors
from qfarm.errors import QfarmError, UserError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
USER_KINDS = [kind for kind in KINDS if issubclass(kind, UserError)]


@pytest.mark.parametrize("kind", USER_KINDS)
def test_both_parts_come_through_a_pickle(kind: type[UserError]) -> None:
    error = pickle.loads(pickle.dumps(kind("It broke in a.xyz.", "Mend it.")))
    assert (type(error), error.what, error.remedy) == (kind, "It broke in a.xyz.", "Mend it.")
    assert str(error) == "It broke in a.xyz.\nMend it."


def test_without_a_remedy() -> None:
    assert str(UserError("It broke.")) == "It broke."


def test_all_are_ours_and_drawn_in_the_tree() -> None:
    ours = [kind for kind in KINDS if issubclass(kind, QfarmError)]
    assert len(ours) >= 8
    assert [kind for kind in ours if kind.__name__ not in (errors.__doc__ or "")] == []
