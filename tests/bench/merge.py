"""What merging a large farm costs.

Run ``OMP_NUM_THREADS=1 PYTHONPATH=$PWD/tests python tests/bench/merge.py [FRAGMENTS]
[--only-empty]``; fills a server of its own with a farm of so many two-stage fragments (20,000
unless told), all of them done in one attempt a stage, and saves it. Its backup is merged into an
empty farm, then into one that knows all of them and has done nothing, and again into what that
gave. Prints seconds, the load of the machine and the peak memory of the process that merges.
"""

import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from pymongo import MongoClient

from qfarm.plan import Plan, stage_key
from qfarm.store import backup, documents, histories, open_store, server
from qfarm.store.merge import Merged, merge
from qfarm.store.protocol import Claim
from support.work import attempt_of, plans, record_of, worker

BLOCK = 1000


class Cost(NamedTuple):
    """Seconds of wall and processor time, peak megabytes, and what was done."""

    wall: float
    cpu: float
    memory: float
    merged: Merged


def fill(uri: str, database: str, fragments: int, done: bool) -> None:
    """Add fragments; with `done`, write what commits would have written, all at once."""
    with open_store(uri, database) as store, MongoClient[Any](uri) as client:
        for first in range(0, fragments, BLOCK):
            batch = plans(min(BLOCK, fragments - first), first=first)
            store.add(batch)
            if done:
                finish(client[database], batch)


def finish(raw: Any, batch: list[Plan]) -> None:
    """Complete workflows in raw writes, as commits are not what is measured."""
    now, attempts, records = datetime.now(UTC), [], []
    for plan in batch:
        for stage in plan.stages:
            claim = Claim(
                key=stage_key(plan.key, stage.name),
                workflow=plan.key,
                submitted=plan.fragment,
                start=plan.fragment,
                stage=stage,
                history=(),
                number=1,
                token="token",
                worker=worker(),
                claimed=now,
            )
            attempts.append(histories.attempt_document(attempt_of(claim), "token", 1))
            head = {"fw_id": 1, "spec": {"qfarm": {"workflow": plan.key}}}
            record = histories.record_document(record_of(claim), head, stage.level.id, now)
            records.append({"_id": claim.key} | record)
    raw["attempts"].insert_many(attempts)
    raw["records"].insert_many(records)
    query = {"spec.qfarm.workflow": {"$in": [plan.key for plan in batch]}}
    state = {"state": "COMPLETED", "spec.qfarm.attempts": 1, "updated_on": documents.iso(now)}
    raw["fireworks"].update_many(query, {"$set": state})


def measured(uri: str, database: str, path: Path) -> Cost:
    """Cost of a merge in this process, which does nothing else."""
    began = time.perf_counter()
    (merged,) = merge(uri, database, [path])
    used = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.perf_counter() - began
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, merged)


def show(what: str, cost: Cost) -> None:
    """Print the figures of one merge."""
    did = f"{cost.merged.new:,} new, {cost.merged.known:,} known {dict(cost.merged.stages)}"
    print(
        f"{what}: {cost.wall:.1f} s, processor {cost.cpu:.1f} s, peak memory "
        f"{cost.memory:.0f} MB, load {os.getloadavg()[0]:.1f}; {did}",
        flush=True,
    )


CASES = {
    "into an empty farm": "empty",
    "into one that knows all, none done": "known",
    "the same again": "known",
}


def main(fragments: int, cases: dict[str, str]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "there.backup"
        try:
            uri = server.up(Path(folder) / "mongo").uri
            fill(uri, "there", fragments, done=True)
            with path.open("wb") as file:
                manifest = backup.save(uri, "there", file, own_server=True)
            size = sum(collection.size for collection in manifest.collections)
            print(f"{fragments:,} fragments, {size / 1e6:.0f} MB as BSON", flush=True)
            if "known" in cases.values():
                fill(uri, "known", fragments, done=False)
            for what, database in cases.items():
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    show(what, alone.submit(measured, uri, database, path).result())
        finally:
            server.down(Path(folder) / "mongo", force=True)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    only = dict(list(CASES.items())[:1]) if "--only-empty" in sys.argv else CASES
    main(numbers[0] if numbers else 20_000, only)
