"""Patience: outages are borne, a right that is missing only for a moment."""

import pytest
from tenacity import wait_none

from qfarm.errors import StoreError, UserError
from qfarm.store.roles import NotAllowedError
from qfarm_workers import patience
from qfarm_workers.patience import patiently

AWAY = StoreError("MongoDB does not answer", "Wait.")
RIGHT = NotAllowedError("the user may not do that", "Ask for the role.")


class Store:
    """Raises some errors, then answers."""

    def __init__(self, *errors: UserError) -> None:
        self.errors, self.calls = list(errors), 0

    def ask(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "wait_fixed", lambda _: wait_none())


def test_it_asks_until_it_has_an_answer() -> None:
    store = Store(AWAY, RIGHT, AWAY)
    assert patiently(store.ask) == "answer"
    assert store.calls == 4


def test_it_gives_up_in_the_end() -> None:
    store = Store(AWAY, AWAY)
    with pytest.raises(StoreError, match="does not answer"):
        patiently(store.ask, seconds=0.0)
    assert store.calls == 1


def test_a_right_that_stays_away_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RIGHT_SECONDS", 0.0)
    store = Store(AWAY, RIGHT, RIGHT)
    with pytest.raises(NotAllowedError):
        patiently(store.ask)
    assert store.calls == 2


def test_other_errors_are_not_waited_for() -> None:
    store = Store(UserError("no such partition", "Look."))
    with pytest.raises(UserError, match="no such partition"):
        patiently(store.ask)
    assert store.calls == 1
