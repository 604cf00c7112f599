"""What failed on a node is left to other nodes for a while, and tried again here in the end."""

from dataclasses import dataclass

from qfarm.store.protocol import StageState
from qfarm.store.wish import Wish
from qfarm_schemas.attempt import Attempt
from qfarm_schemas.failure import FailureKind
from qfarm_workers.identity import this_process
from support import engines
from support.loops import Farm, farm

__all__ = ["farm"]

HERE = this_process("w").host


@dataclass
class Wary:
    """A guide of workers that leave to others what failed on their node."""

    idle_seconds: float
    least: float | None = None

    def drained(self, look: bool = False) -> bool:
        return False

    def wish(self) -> Wish:
        return Wish(partitions=("local",), elsewhere=HERE)

    def begun(self) -> None:
        pass

    def note(self, made: Attempt, engine: str) -> None:
        pass


def test_what_failed_here_waits_for_others_and_is_tried_here_when_nobody_comes(farm: Farm) -> None:
    fragment = farm.submit(engines.stage("crash"))
    loop = farm.loop()
    loop.guide = Wary(idle_seconds=0.6)
    loop.__post_init__()
    assert loop.run() == 3  # the node budget
    assert farm.kinds(fragment) == [FailureKind.CRASHED] * 3
    assert farm.states(fragment) == [StageState.FAILED]
    first, second, _ = farm.attempts(fragment)
    assert (second.started - first.finished).total_seconds() >= 0.3  # half of the time it idles


def test_a_worker_that_idles_for_too_long_ends_while_others_work(farm: Farm) -> None:
    farm.submit(engines.stage("good"))
    held = farm.store.claim(this_process("other"), 60.0)
    assert held is not None
    loop = farm.loop()
    loop.guide = Wary(idle_seconds=0.2)
    loop.__post_init__()
    assert loop.run() == 0
    assert loop.idled


def test_a_worker_ends_at_once_when_nothing_can_come(farm: Farm) -> None:
    loop = farm.loop()
    loop.guide = Wary(idle_seconds=60.0)
    loop.__post_init__()
    assert loop.run() == 0
    assert not loop.idled
