"""Clusters and a queue in virtual time: days of a launcher's life in a second.

A `World` holds the queue of stages; each `Cluster` in it is a partition with a scheduler, jobs that
pull from the queue as real ones do, and a launcher that ticks `qfarm_launchers.scaling`.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import inf
from random import Random

from qfarm.store.fleet import Gate
from qfarm.store.wish import SIGHT
from qfarm_launchers import scaling
from qfarm_launchers.scaling import Cost, Decision, Limits, Memory, Situation

LEASE = 60.0
"""s: after which what a dead job held is ready again."""

SAMPLE = 40
"""Ready stages that a launcher sees."""


@dataclass(eq=False)
class Stage:
    """Work of one slot; `rest` becomes ready when it is done."""

    cost: float
    predicted: float
    route: str = ""
    rest: tuple["Stage", ...] = ()

    @property
    def at_most(self) -> float:
        return 1.5 * self.predicted


@dataclass(frozen=True)
class Weather:
    """What a scheduler does to jobs; times in s."""

    wait: Callable[[Random], float] = lambda _: 20.0  # in its queue, where nodes are free
    nodes: int = 10_000  # jobs that run at once
    most: int = 10_000  # jobs that it lets one user have
    away: tuple[tuple[float, float], ...] = ()  # from when to when it does not answer
    broken: tuple[tuple[float, float], ...] = ()  # from when to when jobs die as they begin
    preempted: float = inf  # mean life of a job that is taken away
    start: float = 30.0  # until a job's workers can claim
    walltime: float = inf
    idle: float = 120.0  # after which a job without work ends


@dataclass(eq=False)
class Job:
    """A batch job."""

    submitted: float
    slots: int
    began: float = inf
    ready: float = inf
    ends: float = inf
    ended: float = inf
    cancelled: bool = False
    attempts: int = 0
    idle_since: float = inf
    running: dict[int, tuple[Stage, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """A line of a cluster's diary, written after each tick."""

    now: float
    ready: int
    pending: int
    running: int
    busy: int
    decision: Decision


class World:
    """Virtual time, and the queue."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.queue: dict[str, deque[Stage]] = {}
        self.clusters: list[Cluster] = []
        self.unfinished = 0
        self.finished = 0
        self.last_finished = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._numbers), act))

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, act = heapq.heappop(self._agenda)
            act()
        self.now = until

    def arrive(self, time: float, stages: Iterable[Stage]) -> None:
        batch = list(stages)

        def act() -> None:
            self.unfinished += sum(1 + len(stage.rest) for stage in batch)
            self.put(batch)

        self.at(time, act)

    def put(self, stages: Iterable[Stage]) -> None:
        for stage in stages:
            self.queue.setdefault(stage.route, deque()).append(stage)
        for cluster in self.clusters:
            cluster.feed()

    def finish(self, stage: Stage) -> None:
        self.unfinished -= 1
        self.finished += 1
        self.last_finished = self.now
        if stage.rest:
            self.put([replace(stage.rest[0], rest=stage.rest[1:])])


class Cluster:
    """A partition: scheduler, jobs and launcher."""

    def __init__(
        self,
        world: World,
        limits: Limits,
        weather: Weather,
        *,
        tick: float = 20.0,
        takes: Callable[[], tuple[str, ...]] = lambda: ("",),
    ) -> None:
        self.world, self.limits, self.weather = world, limits, weather
        self.gate, self.memory, self.takes = Gate.OPEN, Memory(), takes
        self.closed = ""
        self.jobs: list[Job] = []
        self.past: list[Job] = []
        self.tries: list[tuple[float, bool]] = []  # when, and whether it was taken
        self.diary: list[Look] = []
        self.useful = 0.0  # slot-seconds of attempts that ended well
        self.allocated = 0.0  # slot-seconds of jobs
        self._eligible: deque[Job] = deque()
        self._hungry: dict[Job, None] = {}
        self._events: list[scaling.Event] = []
        self._tick = tick
        world.clusters.append(self)
        world.at(world.now, self._turn)

    # The launcher.

    def situation(self) -> Situation:
        now, queues = self.world.now, self._queues()
        sample = islice((stage for queue in queues for stage in islice(queue, SAMPLE)), SAMPLE)
        return Situation(
            now,
            min(10_000, sum(map(len, queues))),
            tuple(Cost(stage.predicted, stage.at_most) for stage in sample),
            tuple(self._as_seen(job) for job in self.jobs if job.began <= now),
            tuple(now - job.submitted for job in self.jobs if job.began > now),
            self.gate,
        )

    def forget(self) -> None:
        """The launcher is killed, and a new one knows only when its predecessor submitted."""
        self.memory = Memory(tries=tuple(time for time, _ in self.tries[-100:]))

    def _queues(self) -> list[deque[Stage]]:
        return [queue for route in self.takes() if (queue := self.world.queue.get(route))]

    def _as_seen(self, job: Job) -> scaling.Job:
        now = self.world.now
        under_way = tuple(
            scaling.still(stage.predicted, now - began) for stage, began in job.running.values()
        )
        return scaling.Job(job.slots, now - job.began, max(0.0, job.ends - now), under_way)

    def _turn(self) -> None:
        self.world.at(self.world.now + self._tick, self._turn)
        now = self.world.now
        self.memory = scaling.after(self.memory, self._events, now)
        seen = self.situation()
        decision, self.memory = scaling.decide(seen, self.limits, self.memory)
        self.closed = decision.closed
        self._events = self._submit(decision.submit)
        self._cancel(decision.cancel_pending)
        running = [job for job in self.jobs if job.began <= now]
        busy = sum(len(job.running) for job in running)
        pending = len(self.jobs) - len(running)
        self.diary.append(Look(now, seen.ready, pending, len(running), busy, decision))

    def _submit(self, jobs: int) -> list[scaling.Event]:
        for done in range(jobs):
            why = self._refusal()
            self.tries.append((self.world.now, not why))
            if why:
                return [scaling.Submitted(done), scaling.Refused(why)]
            self._take_in()
        return [scaling.Submitted(jobs)]

    def _cancel(self, jobs: int) -> None:
        pending = [job for job in self.jobs if job.began > self.world.now]
        for job in sorted(pending, key=lambda job: job.submitted)[:jobs]:
            job.cancelled = True
            self._end(job)

    # The scheduler.

    def _refusal(self) -> str:
        if _within(self.weather.away, self.world.now):
            return "Unable to contact slurm controller"
        if len(self.jobs) >= self.weather.most:
            return "QOSMaxSubmitJobPerUserLimit"
        return ""

    def _take_in(self) -> None:
        job = Job(self.world.now, self.limits.slots)
        self.jobs.append(job)

        def eligible() -> None:
            self._eligible.append(job)
            self._start_jobs()

        self.world.at(self.world.now + self.weather.wait(self.world.random), eligible)

    def _start_jobs(self) -> None:
        while self._eligible and self._running() < self.weather.nodes:
            job = self._eligible.popleft()
            if not job.cancelled:
                self._begin(job)

    def _running(self) -> int:
        return sum(job.began <= self.world.now for job in self.jobs)

    def _begin(self, job: Job) -> None:
        now, weather, world = self.world.now, self.weather, self.world
        job.began, job.ends = now, now + weather.walltime
        if _within(weather.broken, now):
            world.at(now + 3.0, lambda: self._end(job, "module: command not found"))
            return
        life = world.random.expovariate(1 / weather.preempted) if weather.preempted < inf else inf
        if min(life, weather.walltime) < inf:
            world.at(now + min(life, weather.walltime), lambda: self._end(job, "taken away"))
        world.at(now + weather.start, lambda: self._awake(job))

    def _awake(self, job: Job) -> None:
        if job.ended > self.world.now:
            job.ready = job.idle_since = self.world.now
            self._hungry[job] = None
            self._pull(job)

    def _end(self, job: Job, why: str = "") -> None:
        now = self.world.now
        if job.ended <= now:
            return
        job.ended = now
        self.jobs.remove(job)
        self.past.append(job)
        self._hungry.pop(job, None)
        if job.began <= now:
            self.allocated += job.slots * (now - job.began)
            if job.ready == inf:
                self._events.append(scaling.Died(1, why))
            elif not job.attempts:
                self._events.append(scaling.Idled(1, now - job.ready))
        lost = [self._rest(stage, began) for stage, began in job.running.values()]
        job.running.clear()
        if lost:
            self.world.at(now + LEASE, lambda: self.world.put(lost))
        self._start_jobs()

    def _rest(self, stage: Stage, began: float) -> Stage:
        """What is left of a stage whose job ended: it goes on from its last restart file."""
        ran = self.world.now - began
        self.useful += 0.9 * min(ran, stage.cost)
        return replace(stage, cost=max(1.0, stage.cost - 0.9 * ran))

    # The jobs.

    def feed(self) -> None:
        """Let idle slots look at the queue."""
        for job in list(self._hungry):
            if not self._queues():
                return
            self._pull(job)

    def _pull(self, job: Job) -> None:
        while len(job.running) < job.slots and (stage := self._claim(job)):
            self._attempt(job, stage)
        if len(job.running) == job.slots:
            self._hungry.pop(job, None)
        elif not job.running and job.idle_since == inf:
            job.idle_since = self.world.now
        if not job.running:
            since = job.idle_since
            self.world.at(since + self.weather.idle, lambda: self._idle_end(job, since))

    def _claim(self, job: Job) -> Stage | None:
        left = job.ends - self.world.now
        for queue in self._queues() if self.gate is Gate.OPEN else ():
            for index, stage in enumerate(islice(queue, SIGHT)):
                if stage.at_most <= left:
                    del queue[index]
                    return stage
        return None

    def _attempt(self, job: Job, stage: Stage) -> None:
        slot = next(slot for slot in range(job.slots) if slot not in job.running)
        if not job.attempts:
            self._events.append(scaling.Lived())
        job.attempts += 1
        job.idle_since = inf
        job.running[slot] = (stage, self.world.now)
        self.world.at(self.world.now + stage.cost, lambda: self._done(job, slot, stage))

    def _done(self, job: Job, slot: int, stage: Stage) -> None:
        if job.running.get(slot, (None,))[0] is not stage:
            return
        del job.running[slot]
        self.useful += stage.cost
        self._hungry[job] = None
        self.world.finish(stage)
        if job.ended > self.world.now:
            self._pull(job)

    def _idle_end(self, job: Job, since: float) -> None:
        if not job.running and job.idle_since == since:
            self._end(job)


def _within(spans: Iterable[tuple[float, float]], now: float) -> bool:
    return any(begin <= now < end for begin, end in spans)
