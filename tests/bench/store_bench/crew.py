"""Crew: processes that work off a queue at the same time for some seconds."""

from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self

from bench.store_bench.drivers import DRIVERS, Driver

WAIT = 120.0
"""s: longest time that a process of the crew may be silent."""


class Shift(NamedTuple):
    """What the crew is told to do: a driver's name, where, and for how many seconds."""

    driver: str
    uri: str
    database: str
    seconds: float


class Done(NamedTuple):
    """What one process did."""

    tasks: int
    seconds: float
    empty: bool


class Crew:
    """A few processes, started once; those that a measurement does not need are idle."""

    def __init__(self, size: int) -> None:
        context = get_context("spawn")
        ends = [context.Pipe() for _ in range(size)]
        self._pipes = [mine for mine, _ in ends]
        self._processes = [
            context.Process(target=_member, args=(theirs,), daemon=True) for _, theirs in ends
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()

    def rate(self, processes: int, shift: Shift) -> float:
        """Tasks a second that so many processes do together.

        Raises
        ------
        RuntimeError
            The queue ran empty, so the figure would be wrong.
        """
        pipes = self._pipes[:processes]
        for pipe in pipes:
            pipe.send(shift)
        for pipe in pipes:
            _answer(pipe)  # connected and warm
        for pipe in pipes:
            pipe.send(None)
        done = [_answer(pipe) for pipe in pipes]
        if any(one.empty for one in done):
            raise RuntimeError(f"the queue of {shift.driver} ran empty: {done}")
        return sum(one.tasks / one.seconds for one in done)


def _answer(pipe: Pipe) -> Done:
    if not pipe.poll(WAIT):
        raise RuntimeError(f"a process of the crew said nothing for {WAIT:.0f} s")
    answer: Done | Exception = pipe.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _member(pipe: Pipe) -> None:
    """Life of a process of the crew."""
    known: dict[tuple[str, str], Driver] = {}
    while True:
        try:
            shift = pipe.recv()
        except EOFError:
            return
        try:
            key = (shift.driver, shift.database)
            if key not in known:
                known[key] = DRIVERS[shift.driver](shift.uri, shift.database)
            driver = known[key]
            pipe.send(Done(driver.step(), 0.0, empty=False))
            pipe.recv()
            pipe.send(_work(driver, shift.seconds))
        except Exception as error:  # noqa: BLE001  # the parent raises it
            pipe.send(RuntimeError(f"{shift.driver}: {type(error).__name__}: {error}"))


def _work(driver: Driver, seconds: float) -> Done:
    began = perf_counter()
    tasks = 0
    while (now := perf_counter() - began) < seconds:
        count = driver.step()
        tasks += count
        if not count:
            return Done(tasks, now, empty=True)
    return Done(tasks, perf_counter() - began, empty=False)
