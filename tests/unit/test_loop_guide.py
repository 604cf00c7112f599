"""The pull loop and its guide: how long it waits, for what, and what it leaves to other hosts."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qfarm.store.protocol import Refusal
from qfarm.store.wish import ANYTHING, SIGHT, Ahead, Wish
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.config import LeaseConfig
from qfarm_workers import loop as loops
from qfarm_workers.guide import LOOK_SECONDS, ByLauncher
from qfarm_workers.lifetime import Lifetime
from qfarm_workers.loop import PATIENT_SECONDS, Loop
from qfarm_workers.sight import FARTHEST, STAGES_PER_SECOND, Sight
from support import build
from support.memory_fleet import Lines


@dataclass
class Guided:
    """A guide that says what it is told to."""

    idle_seconds: float = inf
    least: float | None = None
    drain: bool = False
    what: Wish = field(default_factory=lambda: Wish(elsewhere="n1"))
    looks: list[bool] = field(default_factory=list)

    def drained(self, look: bool = False) -> bool:
        self.looks.append(look)
        return self.drain

    def wish(self) -> Wish:
        return self.what

    def begun(self) -> None:
        raise AssertionError("nothing was claimed")

    def note(self, made: Attempt, engine: str) -> None:
        raise AssertionError("nothing was claimed")


AHEAD = Ahead("single_point", "l0", "H2O", 3)


@dataclass
class Queue:
    """A store in which others are at work, and nothing can be claimed."""

    busy_until: float = inf
    claims: list[tuple[float, Wish]] = field(default_factory=list)
    length: int = 0
    refuse_at: int | None = None  # which claim finds something, a refusal
    asked: list[Wish] = field(default_factory=list)
    clock: float = 0.0

    def claim(self, worker: object, lease: float, wish: Wish = ANYTHING) -> Refusal | None:
        self.claims.append((self.clock, wish))
        if wish.fits is not None:
            for _ in range(min(self.length - wish.skip, wish.sight)):
                assert not wish.fits(AHEAD)
        found = len(self.claims) - 1 == self.refuse_at
        return Refusal(1, "not ours", datetime.now(UTC)) if found else None

    def busy(self, partition: str, wish: Wish = ANYTHING) -> bool:
        self.asked.append(wish)
        return self.clock < self.busy_until


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """A queue, and the time in its hand."""
    queue = Queue()

    def sleep(seconds: float) -> None:
        queue.clock += seconds
        assert queue.clock < 10_000, "the loop never ends"

    monkeypatch.setattr(loops, "monotonic", lambda: queue.clock)
    monkeypatch.setattr(loops, "sleep", sleep)
    return queue


def looping(
    queue: Queue, guide: Guided, life: float = inf, leaving: bool = False, free: float = 1e6
) -> Loop:
    bench: Any = SimpleNamespace(
        process=SimpleNamespace(leaving=leaving),
        lifetime=Lifetime(life),
        scratch=SimpleNamespace(free_mb=lambda: free, root="scratch"),
        restarts=None,
    )
    lines = cast(Any, Lines())
    return Loop(cast(Any, queue), bench, build.WORKER, LeaseConfig(), lines, guide=guide)


def test_it_waits_for_work_as_long_as_the_guide_says(queue: Queue) -> None:
    loop = looping(queue, Guided(idle_seconds=60.0))
    assert loop.run() == 0
    assert 60.0 < queue.clock < 62.0
    assert loop.idled
    assert not loop.outlived


def test_it_ends_at_once_when_nothing_can_come(queue: Queue) -> None:
    queue.busy_until = 5.0
    loop = looping(queue, Guided())
    assert loop.run() == 0
    assert 5.0 <= queue.clock < 6.1
    assert not loop.idled, "it has not given up on anything"


def test_what_failed_on_its_host_is_left_to_others_for_a_while(queue: Queue) -> None:
    looping(queue, Guided(idle_seconds=300.0)).run()
    patient = [at for at, wish in queue.claims if wish.elsewhere == "n1"]
    rest = [at for at, wish in queue.claims if wish.elsewhere == ""]
    assert patient[0] == 0.0
    assert max(patient) < PATIENT_SECONDS <= min(rest)
    assert all(wish.elsewhere == "" for wish in queue.asked), "in the end it is claimed here"


def test_patience_takes_at_most_half_of_the_time_for_idling(queue: Queue) -> None:
    looping(queue, Guided(idle_seconds=20.0)).run()
    assert max(at for at, wish in queue.claims if wish.elsewhere) < 10.0
    assert min(at for at, wish in queue.claims if not wish.elsewhere) >= 10.0


PICKY = Wish(fits=lambda _: False)


def test_a_loop_that_finds_nothing_looks_farther_and_farther(queue: Queue) -> None:
    queue.length, queue.busy_until = 30_000, 0.0
    assert looping(queue, Guided(idle_seconds=60.0, what=PICKY)).run() == 0
    sights = [wish.sight for _, wish in queue.claims]
    far = [sight for sight in sights if sight > SIGHT]
    assert far == [*(SIGHT * 2**n for n in range(1, 7)), FARTHEST]
    assert [wish.skip for _, wish in queue.claims if wish.skip] == [FARTHEST], "it goes on there"
    assert len(sights) > len(far) + 5, "in between it looks at the first"
    assert sum(far) / queue.clock <= 2 * STAGES_PER_SECOND
    assert [wish.sight for wish in queue.asked] == [FARTHEST], "it ends when it has seen all"


def test_a_claim_that_finds_something_keeps_its_sight(queue: Queue) -> None:
    queue.length, queue.refuse_at = 40_000, 2
    looping(queue, Guided(idle_seconds=0.1, what=PICKY)).run()
    first, _, near, again = (wish.sight for _, wish in queue.claims[:4])
    assert (first, near) == (SIGHT, SIGHT), "the look before was not far ago"
    assert again == 2 * SIGHT


def test_it_looks_no_farther_than_the_end_of_the_queue(queue: Queue) -> None:
    queue.length = 1000
    looping(queue, Guided(idle_seconds=60.0, what=PICKY)).run()
    assert max(wish.sight for _, wish in queue.claims) == 4 * SIGHT
    assert queue.asked, "it waits for what others do"


def test_a_loop_that_takes_all_looks_as_it_always_did(queue: Queue) -> None:
    queue.length = 40_000
    looping(queue, Guided(idle_seconds=60.0)).run()
    assert {wish for _, wish in queue.claims} == {Wish(elsewhere="n1"), Wish()}


def test_the_cheapest_stage_that_was_seen_is_not_the_cheapest_before_all_were(
    queue: Queue,
) -> None:
    """20 s of 1000 s are left, the first stages take 21 s; others stand behind them."""
    queue.clock, queue.length = 880.0, 1500
    loop = looping(queue, Guided(idle_seconds=60.0, least=21.0, what=PICKY), life=1000.0)
    loop.run()
    assert [wish.sight for _, wish in queue.claims if wish.sight > SIGHT][-1] == 4 * SIGHT
    assert loop.outlived
    assert not loop.idled
    assert queue.asked == [], "others change nothing about it"


def claims(sight: Sight, far: int, now: float = 0.0) -> int:
    """A claim that goes through so many stages, and finds the last; how far it might look."""
    wish = sight.within(PICKY, now)
    for _ in range(min(far, wish.sight)):
        assert wish.fits is not None
        wish.fits(AHEAD)
    sight.found()
    return wish.sight


def test_it_looks_far_as_long_as_it_must() -> None:
    sight = Sight()
    assert [claims(sight, SIGHT), claims(sight, 800), claims(sight, 10**6)] == [400, 800, 1600]
    assert [claims(sight, 20_000) for _ in range(4)] == [3200, 6400, 12_800, FARTHEST]
    assert claims(sight, 20_000) == FARTHEST
    assert claims(sight, 32) == FARTHEST
    assert claims(sight, 32) == SIGHT


def test_after_a_far_look_the_next_are_near_for_a_while() -> None:
    sight = Sight(FARTHEST)
    wish = sight.within(PICKY, 0.0)
    assert wish.fits is not None
    for _ in range(FARTHEST):
        wish.fits(AHEAD)
    assert sight.in_vain(0.0)
    assert (sight.within(PICKY, 15.9).sight, sight.within(PICKY, 15.9).skip) == (SIGHT, 0)
    assert sight.in_vain(15.9), "it has not looked far"
    wish = sight.within(PICKY, 16.0)
    assert (wish.sight, wish.skip) == (FARTHEST, FARTHEST)
    assert not sight.in_vain(16.0), "the queue is short now, and nothing fits before"
    assert sight.over
    assert sight.within(PICKY, 16.1).skip == 0, "it begins anew"


def look(sight: Sight, length: int, now: float, fits_at: int = -1) -> int | None:
    """A claim in a queue of a length whose stage at a place fits; None: found, else its skip."""
    wish = sight.within(PICKY, now)
    assert wish.fits is not None
    end = min(length, wish.skip + wish.sight)
    hit = wish.skip <= fits_at < end
    for _ in range(wish.skip, fits_at + 1 if hit else end):
        wish.fits(AHEAD)
    if hit:
        sight.found()
        return None
    sight.in_vain(now)
    return wish.skip


@pytest.mark.parametrize("place", [0, 399, 400, 25_600, 26_000, 99_999])
def test_whatever_fits_is_found_wherever_it_is(place: int) -> None:
    sight = Sight()
    assert None in [look(sight, 100_000, float(now), place) for now in range(100)]


def test_while_it_takes_what_is_far_behind_it_looks_at_the_first_now_and_then() -> None:
    sight = Sight(FARTHEST)
    assert look(sight, 60_000, 0.0) == 0
    assert look(sight, 60_000, 16.0) == 0, "the first of the queue before all"
    looks = [look(sight, 60_000, 16.1 + second, FARTHEST + 5) for second in range(34)]
    assert looks == [*[None] * 16, 0, *[None] * 15, 0, None]
    assert look(sight, 60_000, 65.0, fits_at=3) is None
    assert look(sight, 60_000, 65.1) == 0, "there is something near again"


def test_it_is_over_only_when_all_was_seen_in_vain() -> None:
    sight = Sight(FARTHEST)
    looks = [look(sight, 40_000, now) for now in (0.0, 16.0, 16.1)]
    assert looks == [0, 0, FARTHEST]
    assert sight.over
    sight = Sight(FARTHEST)
    looks = [look(sight, 40_000, now, fits) for now, fits in ((0, -1), (16, -1), (17, 30_000))]
    assert looks[-1] is None
    assert [look(sight, 40_000, now) for now in (18.0, 30.0)] == [FARTHEST] * 2
    assert not sight.over, "something was found on the way"


def test_who_takes_everything_now_has_seen_everything() -> None:
    sight = Sight()
    wish = sight.within(PICKY, 0.0)
    assert wish.fits is not None
    for _ in range(SIGHT):
        wish.fits(AHEAD)
    assert sight.in_vain(0.0)
    assert sight.within(PICKY, 0.1).sight == SIGHT
    assert sight.within(ANYTHING, 0.2) == ANYTHING
    assert not sight.in_vain(0.2)


def test_a_drain_is_looked_up_before_each_claim(queue: Queue) -> None:
    guide = Guided(drain=True)
    assert looping(queue, guide).run() == 0
    assert guide.looks == [True]
    assert queue.claims == []


def test_a_job_that_ends_claims_nothing(queue: Queue) -> None:
    loop = looping(queue, Guided(), leaving=True)
    assert loop.run() == 0
    assert queue.claims == []
    assert not loop.outlived


def test_the_cheapest_stage_says_whether_a_life_is_over(queue: Queue) -> None:
    """20 s of 1000 s are left: enough for stages of 10 s, and for nothing unknown."""
    queue.clock = 880.0
    for least, over in ((None, True), (21.0, True), (10.0, False)):
        loop = looping(queue, Guided(least=least, idle_seconds=0.0), life=1000.0)
        loop.run()
        assert loop.outlived is over, least


class Asked:
    """A store that counts how often it is asked for a drain."""

    def __init__(self) -> None:
        self.times = 0
        self.drain = False

    def draining(self, launcher: str) -> bool:
        assert launcher == "run-1"
        self.times += 1
        return self.drain


def test_a_launcher_s_own_loops_ask_it_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("qfarm_workers.guide.monotonic", lambda: now[0])
    store = Asked()
    guide = ByLauncher(cast(Any, store), "run-1")
    assert guide.idle_seconds == inf
    assert guide.wish() == ANYTHING
    assert not guide.drained()
    store.drain = True
    assert not guide.drained(), "it was asked a moment ago"
    assert guide.drained(look=True)
    store.drain = False
    assert guide.drained()
    now[0] += LOOK_SECONDS
    assert not guide.drained()
    assert store.times == 3
