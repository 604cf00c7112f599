"""Drivers: each takes tasks from a queue and completes them, in one of the ways compared.

A driver lives in a worker process. `steps` does one round and gives the number of tasks done, 0
when the queue is empty.
"""

import logging
import tempfile
from collections.abc import Mapping
from functools import cache
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

from bson import BSON
from pymongo import ASCENDING, DESCENDING, MongoClient, ReturnDocument

from bench.store_bench import farm
from bench.store_bench.molecule import LEASE, WORKER
from bench.store_bench.noop import NoOp
from qfarm.costs.model import CostModel
from qfarm.engines import engine
from qfarm.store.protocol import Claim
from qfarm.store.wish import Wish
from qfarm_schemas.config import FarmConfig, Partition
from qfarm_workers.appraisal import Appraisal, Foresight
from qfarm_workers.lifetime import Lifetime

Document = dict[str, Any]

ORDER = [("spec._priority", DESCENDING), ("fw_id", ASCENDING)]
CLAIM_INDEX = [("state", ASCENDING), ("spec._category", ASCENDING), *ORDER]
ROCKETS = 4
"""Rockets in one call of rapidfire."""


class Driver(Protocol):
    """One way to work off a queue."""

    def __init__(self, uri: str, database: str) -> None: ...

    def step(self) -> int:
        """Do a round; tasks done."""


class OneByOne:
    """`Store.claim`, `Store.commit`."""

    def __init__(self, uri: str, database: str) -> None:
        self._store = farm.store_of(uri, database)

    def step(self) -> int:
        claim = self._store.claim(WORKER, LEASE)
        if claim is None:
            return 0
        assert isinstance(claim, Claim), claim
        farm.finish(self._store, claim)
        return 1


class Judging:
    """One by one, but that the worker looks whether a stage fits into a life of a day."""

    def __init__(self, uri: str, database: str) -> None:
        self._store = farm.store_of(uri, database)
        foresight = Foresight(CostModel(), engine, FarmConfig())
        life = Lifetime(86400.0, monotonic())
        self._wish = Wish(fits=Appraisal(foresight, Partition(), life).fits)

    def step(self) -> int:
        claim = self._store.claim(WORKER, LEASE, self._wish)
        if claim is None:
            return 0
        assert isinstance(claim, Claim), claim
        farm.finish(self._store, claim)
        return 1


class JudgingBatch(Judging):
    """The same in batches of 10."""

    size = 10

    def step(self) -> int:
        claims = farm.own(self._store.claim_many(WORKER, LEASE, self.size, self._wish))
        done = self._store.commit_many(farm.ended(claims))
        assert all(done), done
        return len(claims)


class Batch:
    """`Store.claim_many`, `Store.commit_many`."""

    size = 10

    def __init__(self, uri: str, database: str) -> None:
        self._store = farm.store_of(uri, database)

    def step(self) -> int:
        claims = farm.own(self._store.claim_many(WORKER, LEASE, self.size))
        done = self._store.commit_many(farm.ended(claims))
        assert all(done), done
        return len(claims)


class Batch50(Batch):
    """The same in larger batches."""

    size = 50


class Raw:
    """The ceiling: claim, insert a record, complete; three round trips of plain pymongo."""

    def __init__(self, uri: str, database: str) -> None:
        self._client = MongoClient[Document](uri)
        own = self._client[database]
        self._fireworks, self._records = own["fireworks"], own["records"]
        model = own["model"].find_one({})
        assert model is not None
        self._lease, self._record = model["lease"], model["record"]

    def step(self) -> int:
        token = uuid4().hex
        found = self._fireworks.find_one_and_update(
            {"state": "READY", "spec._category": {"$in": [None, WORKER.partition]}},
            {"$set": {"state": "RUNNING", "lease": self._lease | {"token": token}}},
            sort=ORDER,
            return_document=ReturnDocument.AFTER,
        )
        if found is None:
            return 0
        self._records.insert_one(self._record | {"_id": found["spec"]["qfarm"]["key"]})
        done = self._fireworks.update_one(
            {"_id": found["_id"], "state": "RUNNING", "lease.token": token},
            {"$set": {"state": "COMPLETED"}, "$unset": {"lease": ""}},
        )
        assert done.modified_count == 1
        return 1


class Rapidfire:
    """FireWorks' own worker loop on tasks that do nothing."""

    def __init__(self, uri: str, database: str) -> None:
        from fireworks import FWorker

        logging.disable(logging.CRITICAL)
        self._launchpad, self._fworker = launchpad(uri, database), FWorker("w0")
        self._folder = tempfile.mkdtemp(prefix="rockets-")

    def step(self) -> int:
        from fireworks.core.rocket_launcher import rapidfire

        rapidfire(
            self._launchpad,
            self._fworker,
            m_dir=self._folder,
            nlaunches=ROCKETS,
            max_loops=1,
            sleep_time=1,
            strm_lvl="CRITICAL",
        )
        return ROCKETS


DRIVERS: Mapping[str, type[Driver]] = {
    "raw": Raw,
    "one": OneByOne,
    "batch10": Batch,
    "batch50": Batch50,
    "rapidfire": Rapidfire,
    "fits": Judging,
    "fits10": JudgingBatch,
}


def launchpad(uri: str, database: str) -> Any:
    """FireWorks' LaunchPad."""
    from fireworks import LaunchPad

    return LaunchPad(host=uri, name=database, uri_mode=True, strm_lvl="CRITICAL")


@cache
def spec_of_ours(uri: str) -> Document:
    """Spec of a firework as `Store.add` writes it, without its Firetask."""
    farm.add(uri, "spec", 1, 0)
    with farm.mongo(uri, "spec") as database:
        firework = database["fireworks"].find_one({"state": "READY"})
    assert firework is not None
    spec = dict(firework["spec"])
    del spec["_tasks"]
    return spec


def workflows(uri: str, count: int) -> list[Any]:
    """FireWorks' workflows of two steps that do nothing, with specs as large as ours."""
    from fireworks import Firework, Workflow

    spec, made = spec_of_ours(uri), []
    for _ in range(count):
        first = Firework([NoOp()], spec=dict(spec), name="C2H6O preopt")
        second = Firework([NoOp()], spec=dict(spec), name="C2H6O single_point", parents=[first])
        made.append(Workflow([first, second], name="C2H6O f12345678"))
    return made


def fill_raw_queue(uri: str, database: str, count: int, first: int, model: Document) -> None:
    """Put fireworks like ours into the queue of `Raw`."""
    with farm.mongo(uri, database) as own:
        own["fireworks"].create_index(CLAIM_INDEX)
        own["model"].replace_one({"_id": 1}, {"_id": 1} | model, upsert=True)
        entry = model["firework"]["spec"]
        for start in range(first, first + count, farm.BLOCK):
            ids = range(start, min(start + farm.BLOCK, first + count))
            own["fireworks"].insert_many(
                model["firework"]
                | {"fw_id": i, "spec": entry | {"qfarm": entry["qfarm"] | {"key": f"{i:069d}"}}}
                for i in ids
            )


def models(uri: str, database: str) -> Document:
    """A ready firework, a lease and a record as our store writes them; finishes one stage."""
    farm.add(uri, database, 1, 0)
    store = farm.store_of(uri, database)
    with farm.mongo(uri, database) as own:
        firework = own["fireworks"].find_one({"state": "READY"})
        claim = farm.take(store)
        running = own["fireworks"].find_one({"state": "RUNNING"})
        farm.finish(store, claim)
        record = own["records"].find_one({})
    assert firework is not None
    assert running is not None
    assert record is not None
    del firework["_id"], record["_id"]
    return {"firework": firework, "lease": running["lease"], "record": record}


def weight(document: Document) -> int:
    """Size as BSON, bytes."""
    return len(BSON.encode(document))
