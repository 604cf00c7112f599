"""The heartbeat: what stops an attempt, and what does not."""

from threading import Event
from typing import Any, cast

import pytest

from qfarm.errors import LeaseLostError, StoreError
from qfarm.store.protocol import Store
from qfarm_schemas.attempt import Rung
from qfarm_schemas.config import LeaseConfig
from qfarm_workers.heartbeat import Heartbeat
from support.claims import claim


class Pulse:
    """A store that answers beats from a list; `empty` tells that all were asked for."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.rungs: list[Rung | None] = []
        self.empty = Event()

    def heartbeat(self, claim: object, lease_seconds: float, rung: Rung | None = None) -> bool:
        self.rungs.append(rung)
        answer = self.answers.pop(0) if self.answers else True
        if not self.answers:
            self.empty.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


def beat(pulse: Pulse, stop: Event, **fields: Any) -> Heartbeat:
    lease = LeaseConfig(seconds=1, heartbeat=0.01)
    return Heartbeat(cast(Store, pulse), claim(), lease, Rung(scf="plain"), stop, **fields)


@pytest.mark.parametrize("answer", [False, LeaseLostError()])
def test_a_lost_lease_stops(answer: bool | Exception) -> None:
    stop = Event()
    with beat(Pulse(True, answer), stop):
        assert stop.wait(5)


def test_an_outage_does_not_stop() -> None:
    pulse, stop = Pulse(True, StoreError("away"), StoreError("away"), True), Event()
    with beat(pulse, stop):
        assert pulse.empty.wait(5)
    assert not stop.is_set()
    assert all(rung == Rung(scf="plain") for rung in pulse.rungs)


def test_the_end_of_the_attempt_does_not_count_as_a_loss() -> None:
    stop = Event()
    with beat(Pulse(), stop):
        pass
    assert not stop.is_set()


def test_broken_code_stops_the_attempt_and_is_told() -> None:
    stop = Event()
    with pytest.raises(KeyError), beat(Pulse(KeyError("lease")), stop):
        assert stop.wait(5)
    assert stop.is_set()


def test_a_short_attempt_of_a_batch_costs_no_beat() -> None:
    pulse, stop = Pulse(True), Event()
    with beat(pulse, stop, quiet=60):
        pass
    assert pulse.rungs == []
    assert not stop.is_set()


def test_what_waits_beside_a_long_attempt_is_seen_to_until_it_is_done() -> None:
    pulse, stop, done = Pulse(), Event(), Event()
    away = [StoreError("away"), StoreError("away")]

    def beside() -> None:
        if away:
            raise away.pop()
        done.set()

    with beat(pulse, stop, quiet=0.02, beside=beside):
        assert done.wait(5)
    assert not stop.is_set()


def test_an_attempt_whose_lease_is_lost_leaves_the_rest_to_the_loop() -> None:
    stop, called = Event(), Event()
    with beat(Pulse(False), stop, beside=called.set):
        assert stop.wait(5)
    assert not called.is_set()
