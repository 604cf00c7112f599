"""Databases of the benchmark on one private server, and what fills them."""

import copy
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.database import Database

from bench.store_bench.figures import Report
from bench.store_bench.molecule import LEASE, WORKER, outcome, plans
from qfarm.ladder import Done
from qfarm.store.mongo import MongoStore
from qfarm.store.protocol import Claim, Ended, Refusal
from qfarm_schemas.attempt import Worker

Document = dict[str, Any]

BLOCK = 1000
"""Workflows in one call of `Store.add`."""

COPIED = ("fragments", "workflows", "fireworks")
FILLERS = 2
"""Processes that fill a large queue."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    submit : tuple of int
        Workflows in one submission.
    repeats : int
        Rounds of each measurement.
    seconds : float
        Length of one measurement of cycles, s.
    depths : tuple of int
        Numbers of ready stages for the latency of a claim; the last is also "the large farm".
    claims : int
        Claims timed at each depth.
    taken, lost : int
        Claims taken from the head of the largest queue, and how many of these are lost.
    jobs : int
        Jobs for jobflow-remote's runner.
    """

    submit: tuple[int, ...]
    repeats: int
    seconds: float
    depths: tuple[int, ...]
    claims: int
    taken: int
    lost: int
    jobs: int


@dataclass(frozen=True)
class Bench:
    """What every part of the benchmark gets."""

    uri: str
    folder: Path
    scale: Scale
    report: Report
    jobflow_python: str | None


@contextmanager
def mongo(uri: str, name: str) -> Iterator[Database[Document]]:
    """A database, as pymongo gives it with its defaults."""
    with MongoClient[Document](uri, tz_aware=True) as client:
        yield client[name]


@cache
def store_of(uri: str, name: str) -> MongoStore:
    """The store of a database, opened once in a process."""
    return MongoStore.connect(uri, name)


class Query(NamedTuple):
    """A query as MongoDB's profiler saw it: collection, index keys and documents looked at."""

    collection: str
    keys: int
    documents: int
    plan: str

    def __str__(self) -> str:
        return f"{self.keys:,} keys, {self.documents:,} documents, {self.plan}"


def queries_of(uri: str, name: str, work: Callable[[], object]) -> list[Query]:
    """The queries of a piece of work."""
    with mongo(uri, name) as database:
        database["system.profile"].drop()
        database.command("profile", 2)
        work()
        database.command("profile", 0)
        profile = database["system.profile"]
        found = [_query(item) for item in profile.find({"planSummary": {"$exists": True}})]
        profile.drop()
    return found


def _query(item: Document) -> Query:
    ways = re.findall(r"[A-Z]\w+(?: \{[^}]*\})?", item["planSummary"])
    plan = ", ".join(dict.fromkeys(" ".join(way.split()) for way in ways))
    collection = item["ns"].partition(".")[2]
    return Query(collection, item.get("keysExamined", 0), item.get("docsExamined", 0), plan)


def timed(work: Callable[[], object]) -> float:
    """Seconds of a piece of work."""
    began = perf_counter()
    work()
    return perf_counter() - began


def take(store: MongoStore, worker: Worker = WORKER) -> Claim:
    """The next claim, which must be there."""
    claim = store.claim(worker, LEASE)
    assert isinstance(claim, Claim), claim
    return claim


def finish(store: MongoStore, claim: Claim) -> None:
    """Commit its attempt and record."""
    attempt, record = outcome(claim)
    store.commit(claim, attempt, Done(), record)


def take_many(
    store: MongoStore, count: int, worker: Worker = WORKER, limit: int = 50
) -> list[Claim]:
    """So many claims, in batches."""
    claims: list[Claim] = []
    while len(claims) < count:
        found = store.claim_many(worker, LEASE, min(limit, count - len(claims)))
        assert found, f"the queue is empty after {len(claims)} of {count} claims"
        claims += own(found)
    return claims


def own(found: Sequence[Claim | Refusal]) -> list[Claim]:
    """Claims, none of which may be a refusal."""
    claims = [item for item in found if isinstance(item, Claim)]
    assert len(claims) == len(found), found
    return claims


def ended(claims: Sequence[Claim]) -> list[Ended]:
    """What a worker would commit for these claims."""
    made = ((claim, *outcome(claim)) for claim in claims)
    return [Ended(claim, attempt, Done(), record) for claim, attempt, record in made]


def add(uri: str, name: str, count: int, first: int, partition: str | None = None) -> None:
    """Submit workflows in blocks."""
    store = store_of(uri, name)
    for start in range(first, first + count, BLOCK):
        size = min(BLOCK, first + count - start)
        store.add(plans(size, start, partition))


def fill(uri: str, name: str, count: int, first: int = 0) -> float:
    """Submit workflows from several processes when there are many; seconds."""
    began = perf_counter()
    if count <= 10 * BLOCK:
        add(uri, name, count, first)
    else:
        _share(add, uri, name, count, first)
    return perf_counter() - began


def fill_raw(uri: str, name: str, count: int) -> float:
    """Insert copies of the documents of a submission under other keys; seconds.

    The head of the queue must be real already: the copies look and weigh the same, but no claim
    would take them for qfarm's own.
    """
    began = perf_counter()
    with mongo(uri, name) as database:
        counters = database["fw_id_assigner"]
        first = counters.find_one_and_update({}, {"$inc": {"next_fw_id": 2 * count}})
    assert first is not None
    _share(_copy, uri, name, count, int(first["next_fw_id"]))
    return perf_counter() - began


def _share(work: Callable[..., None], uri: str, name: str, count: int, first: int) -> None:
    """Let processes do equal parts; ids of fireworks advance twice as fast as workflows."""
    step = 2 if work is _copy else 1
    store_of(uri, name)  # makes the indexes before others meet there
    part = -(-count // FILLERS)
    parts = [(start, min(part, count - start)) for start in range(0, count, part)]
    with ProcessPoolExecutor(FILLERS, get_context("spawn")) as pool:
        for done in [
            pool.submit(work, uri, name, size, first + step * start) for start, size in parts
        ]:
            done.result()


def _copy(uri: str, name: str, count: int, first_id: int) -> None:
    """Insert copies of the first workflow of a database."""
    with mongo(uri, name) as database:
        models = _models(database)
        for start in range(0, count, BLOCK):
            rows = [
                _copied(models, first_id + 2 * (start + index))
                for index in range(min(BLOCK, count - start))
            ]
            for collection in COPIED:
                documents = [document for row in rows for document in row[collection]]
                database[collection].insert_many(documents, ordered=False)


def _models(database: Database[Document]) -> dict[str, list[Document]]:
    """The documents of the workflow that was submitted first."""
    workflow = database["workflows"].find_one(sort=[("nodes", 1)])
    assert workflow is not None
    fireworks = list(database["fireworks"].find({"fw_id": {"$in": workflow["nodes"]}}))
    fragment = database["fragments"].find_one({"_id": workflow["metadata"]["fragment_id"]})
    assert fragment is not None
    return {"workflows": [workflow], "fireworks": fireworks, "fragments": [fragment]}


def _copied(models: dict[str, list[Document]], first_id: int) -> dict[str, list[Document]]:
    """The documents of one more workflow, with random keys."""
    key, fragment_id = "w" + secrets.token_hex(32), "f" + secrets.token_hex(32)
    ids = [first_id, first_id + 1]
    workflow = {name: copy.copy(item) for name, item in models["workflows"][0].items()}
    del workflow["_id"]
    workflow["nodes"] = ids
    workflow["links"] = {str(ids[0]): [ids[1]]}
    workflow["parent_links"] = {str(ids[1]): [ids[0]]}
    workflow["fw_states"] = {str(ids[0]): "READY", str(ids[1]): "WAITING"}
    workflow["metadata"] |= {"key": key, "fragment_id": fragment_id}
    fireworks = []
    for fw_id, model in zip(ids, models["fireworks"], strict=True):
        entry = model["spec"]["qfarm"]
        own = {"key": f"{key}.{entry['stage']}", "workflow": key, "fragment_id": fragment_id}
        firework = model | {"fw_id": fw_id, "spec": model["spec"] | {"qfarm": entry | own}}
        del firework["_id"]
        fireworks.append(firework)
    fragment = models["fragments"][0] | {"_id": fragment_id}
    return {"workflows": [workflow], "fireworks": fireworks, "fragments": [fragment]}
