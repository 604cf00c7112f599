"""A store and pull loops on it, in this process, with real engine processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, cast

import pytest
from structlog.typing import FilteringBoundLogger

from qfarm.plan import Plan, workflow_key
from qfarm.store import open_store
from qfarm.store.protocol import Claim, Ended, StageState, Store, View
from qfarm.store.wish import ANYTHING, Wish
from qfarm_schemas.attempt import Attempt, Failure, Outcome, Worker
from qfarm_schemas.config import LeaseConfig, Partition, Stage
from qfarm_schemas.failure import FailureKind
from qfarm_workers import log
from qfarm_workers.bench import Bench, Places, bare
from qfarm_workers.guide import Guide
from qfarm_workers.identity import this_process
from qfarm_workers.lifetime import lifetime
from qfarm_workers.loop import Loop
from qfarm_workers.process import EngineProcess
from qfarm_workers.restart import Restarts
from qfarm_workers.scratch import Scratch
from support import build, steps

LEASE = LeaseConfig(seconds=0.6, heartbeat=0.15)


class Watched:
    """A store that takes note of what a loop asks of it; `before` is called with the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.limits: list[int] = []
        self.commits: list[tuple[str, ...]] = []
        self.released: list[str] = []
        self.beats = 0
        self.before: Callable[[str], None] = lambda _: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, *arguments: Any) -> Any:
        self.limits.append(1)
        return self._store.claim(*arguments)

    def claim_many(
        self, worker: Worker, lease_seconds: float, limit: int, wish: Wish = ANYTHING
    ) -> Any:
        self.limits.append(limit)
        return self._store.claim_many(worker, lease_seconds, limit, wish)

    def heartbeat(self, *arguments: Any) -> bool:
        self.beats += 1
        return self._store.heartbeat(*arguments)

    def commit_many(self, ended: Sequence[Ended]) -> tuple[bool, ...]:
        self.before("commit")
        self.commits.append(tuple(item.attempt.key for item in ended))
        return self._store.commit_many(ended)

    def release(self, claims: Sequence[Claim]) -> None:
        self.before("release")
        self.released += [claim.key for claim in claims]
        self._store.release(claims)


@dataclass
class Farm:
    """A store, and loops on it."""

    store: Store
    folder: Path
    process: EngineProcess
    log: FilteringBoundLogger
    lease: LeaseConfig = LEASE
    partition: Partition = field(default_factory=Partition)
    places: Places = bare
    partitions: tuple[Partition, ...] = ()
    _fragments: int = 0

    def submit(self, *stages: Stage) -> str:
        """Submit a fragment that no other test has; its id."""
        self._fragments += 1
        moved = build.WATER.positions + float(self._fragments)
        fragment = build.WATER.model_copy(update={"positions": moved})
        self.store.add([Plan(workflow_key(fragment, stages), fragment, stages)])
        return fragment.id

    def loop(
        self, name: str = "w", recent: Sequence[float] = (), guide: Guide | None = None
    ) -> Loop:
        """A loop whose last attempts took that many seconds."""
        worker = this_process(name, "local", "run-1")
        loop = Loop(self.store, self.bench(), worker, self.lease, self.log, guide=guide)
        loop.recent.extend(recent)
        return loop

    def watch(self) -> Watched:
        """Exchange the store for one that takes note."""
        watched = Watched(self.store)
        self.store = cast(Store, watched)
        return watched

    def bench(self) -> Bench:
        """A bench whose lifetime begins now."""
        return Bench(
            self.process,
            self.scratch,
            self.partition,
            steps.look_up,
            self.places,
            self.restarts,
            lifetime(self.partition.walltime, monotonic()),
            partitions=self.partitions,
        )

    def work(self) -> int:
        return self.loop().run()

    def start(self) -> Thread:
        thread = Thread(target=self.work)
        thread.start()
        return thread

    @property
    def restarts(self) -> Restarts:
        return Restarts(self.folder / "restart")

    @property
    def scratch(self) -> Scratch:
        return Scratch(self.folder / "scratch")

    def view(self, fragment_id: str) -> View:
        return self.store.view(fragment_id)

    def attempts(self, fragment_id: str) -> list[Attempt]:
        view = self.view(fragment_id)
        return [attempt for row in view.rows for attempt in view.attempts.get(row.key, ())]

    def outcomes(self, fragment_id: str) -> list[Outcome]:
        return [attempt.outcome for attempt in self.attempts(fragment_id)]

    def kinds(self, fragment_id: str) -> list[FailureKind | None]:
        outcomes = self.outcomes(fragment_id)
        return [one.kind if isinstance(one, Failure) else None for one in outcomes]

    def states(self, fragment_id: str) -> list[StageState]:
        return [row.state for row in self.view(fragment_id).rows]


@pytest.fixture
def farm(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Farm]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with (
        open_store(mongo_uri, database) as store,
        EngineProcess(tmp_path / "scratch", threads=1) as process,
        log.to_file(tmp_path / "log.jsonl") as lines,
    ):
        yield Farm(store, tmp_path, process, lines)
