"""How long a lease must be seen unmoved before it counts as lost."""

from hypothesis import given
from hypothesis import strategies as st

from qfarm.store.watch import Watch


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looks(watch: Watch[str], clock: Clock, seconds: float, *signs: str) -> frozenset[str]:
    clock.now += seconds
    return watch.look(signs, 20.0)


def test_it_takes_as_long_as_asked_for() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    assert [sorted(looks(watch, clock, 5.0, "a")) for _ in range(6)] == [[]] * 4 + [["a"]] * 2


def test_without_waiting_everything_counts_at_once() -> None:
    assert Watch[str](Clock()).look(["a", "b"], 0.0) == {"a", "b"}


def test_a_sign_of_life_starts_it_anew() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    for sign in ("a1", "a1", "a1", "a2", "a2", "a1"):
        assert not looks(watch, clock, 9.0, sign)
    assert not looks(watch, clock, 9.0)
    assert not looks(watch, clock, 9.0, "a1")


def test_an_outage_uses_up_half_at_most() -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    assert not looks(watch, clock, 0.0, "a")
    assert not looks(watch, clock, 3600.0, "a")
    assert not looks(watch, clock, 9.0, "a")
    assert looks(watch, clock, 1.0, "a")


@given(st.lists(st.floats(0, 100), max_size=30))
def test_never_earlier_than_asked_for(steps: list[float]) -> None:
    clock = Clock()
    watch: Watch[str] = Watch(clock)
    looks(watch, clock, 0.0, "a")
    for step in steps:
        if looks(watch, clock, step, "a"):
            assert clock.now - 1000.0 >= 20.0 - 1e-9
