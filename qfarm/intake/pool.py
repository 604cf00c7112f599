"""Pool: frames are examined in several processes, and come back in order.

A frame takes a quarter of a millisecond, nearly all of it Python's, so threads would not do. Small
batches are examined in this process: starting others takes a second.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, NamedTuple

from qfarm.errors import InputError
from qfarm.intake.chunks import chunks
from qfarm.intake.examine import Examiner, Rejected
from qfarm.intake.frames import Frame
from qfarm.intake.problem import Problem
from qfarm.intake.spool import Press
from qfarm.plan import Plan
from qfarm_schemas.level import LevelOfTheory

WORTH: Final = 4_000_000
"""Bytes of structure files, some 5,000 small fragments, from which other processes pay."""

MOST: Final = 4
"""Processes; more would wait for the one that reads the files."""


class Group(NamedTuple):
    """Fragments that are counted together: one class at the same levels of theory."""

    fragment_class: str
    levels: tuple[LevelOfTheory, ...]  # one a stage; empty for rejected frames


class Accepted(NamedTuple):
    """A frame that has a plan.

    Attributes
    ----------
    key : str
        Workflow key.
    group : Group
        What it counts for.
    n_atoms : int
        Number of atoms.
    line : bytes
        The plan, for the spool.
    """

    key: str
    group: Group
    n_atoms: int
    line: bytes


Examined = Accepted | Rejected


def processes_for(size: int) -> int:
    """Processes that examine files of so many bytes; 1: this one does it."""
    cores = len(os.sched_getaffinity(0))
    return 1 if size < WORTH else min(cores, MOST)


def examined(
    frames: Iterable[Frame | Problem], examiner: Examiner, processes: int = 1
) -> Generator[Sequence[Examined], None, None]:
    """Examine frames, in order, in chunks.

    Raises
    ------
    InputError
        A process was killed.
    """
    parts = chunks(frames, _atoms)
    if processes == 1:
        yield from map(_Bench(examiner), parts)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (examiner,))
    try:
        yield from _in_order(pool, parts, 2 * processes)
    except BrokenProcessPool as error:
        raise InputError(
            "a process that examined frames was killed, most likely because the machine ran out "
            "of memory; nothing was written",
            "Free memory, or submit on another machine, and give the same command again.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Bench:
    """Examines chunks one after the other."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._press = Press(examiner.protocol)
        self._groups: dict[tuple[str, ...], Group] = {}

    def __call__(self, chunk: Iterable[Frame | Problem]) -> list[Examined]:
        return [self._examine(frame) for frame in chunk]

    def _examine(self, frame: Frame | Problem) -> Examined:
        found = self._examiner.examine(frame)
        if isinstance(found, Rejected):
            return found
        line = self._press.line(found)
        return Accepted(found.key, self._group(found), found.fragment.n_atoms, line)

    def _group(self, plan: Plan) -> Group:
        """One group for all that are alike, which is sent once a chunk."""
        alike = (plan.fragment.fragment_class, *(stage.id for stage in plan.stages))
        if alike not in self._groups:
            levels = tuple(stage.level for stage in plan.stages)
            self._groups[alike] = Group(plan.fragment.fragment_class, levels)
        return self._groups[alike]


def _in_order(
    pool: ProcessPoolExecutor, parts: Iterable[tuple[Frame | Problem, ...]], ahead: int
) -> Generator[Sequence[Examined], None, None]:
    waiting: deque[Future[list[Examined]]] = deque()
    for part in parts:
        waiting.append(pool.submit(_work, part))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _atoms(frame: Frame | Problem) -> int:
    return len(frame.atoms) if isinstance(frame, Frame) else 0


_bench: Callable[[Iterable[Frame | Problem]], list[Examined]]
"""Of a process of the pool."""


def _begin(examiner: Examiner) -> None:
    global _bench  # noqa: PLW0603  what a process of the pool works with from its first chunk on
    _bench = _Bench(examiner)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the pool through its owner
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    """A pool whose owner was killed would wait for ever."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _work(part: tuple[Frame | Problem, ...]) -> list[Examined]:
    return _bench(part)
