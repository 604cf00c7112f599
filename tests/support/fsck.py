"""Farms for fsck: documents of consistent farms, in memory and in MongoDB."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from qfarm.plan import Plan
from qfarm.store import documents, histories, launches
from qfarm.store.codec import decode, encode
from qfarm.store.fsck.model import Facts, Raw, grouped
from qfarm.store.fsck.tools import Tools
from qfarm.store.lease import Lease
from qfarm.store.planned import by_fireworks
from qfarm.store.protocol import Claim
from qfarm_schemas.failure import FailureKind
from support.work import PREOPT, SINGLE_POINT, attempt_of, failed, plans, record_of, worker

Document = dict[str, Any]
HOUR = timedelta(hours=1)
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
TWO_STAGES = plans(60)
PLANS = {plan.key: plan for plan in (*TWO_STAGES, *plans(20, SINGLE_POINT, first=100))}
COLLECTIONS = ("workflows", "fireworks", "launches", "attempts", "records")


class Simulated:
    """A workflow in memory that goes through life by the rules of the store."""

    def __init__(self, plan: Plan, first_id: int, launch_ids: Iterator[int]) -> None:
        made = by_fireworks(plan, 0, first_id)
        self.plan = plan
        self.launch_ids = launch_ids
        self.raw: Raw = {
            "workflows": [{"_id": ObjectId()} | deepcopy(made.workflow)],
            "fireworks": [{"_id": ObjectId()} | deepcopy(item) for item in made.fireworks],
            "launches": [],
            "attempts": [],
            "records": [],
        }

    def firework(self, state: str) -> Document | None:
        return next((item for item in self.raw["fireworks"] if item["state"] == state), None)

    def claim(self) -> bool:
        item = self.firework("READY")
        if item is None:
            return False
        launch = next(self.launch_ids)
        item["lease"] = {
            "token": f"t{launch}",
            "worker": encode(worker()),
            "seconds": 60.0,
            "number": item["spec"]["qfarm"]["attempts"] + 1,
            "launch": launch,
            "claimed": NOW - timedelta(seconds=30),
            "expires": NOW + timedelta(seconds=30),
        }
        item |= {"state": "RUNNING", "launches": [launch]}
        item.pop("failure", None)
        running = launches.running(item["fw_id"], decode(Lease, item["lease"]))
        self.raw["launches"].append({"_id": ObjectId()} | running)
        return self.refresh()

    def end(self, outcome: str) -> bool:
        item = self.firework("RUNNING")
        if item is None:
            return False
        lease, entry = item.pop("lease"), item["spec"]["qfarm"]
        claim = self._claim(item, lease)
        done = outcome == "COMPLETED"
        attempt = attempt_of(claim, None if done else failed(FailureKind.CRASHED))
        document = histories.attempt_document(attempt, lease["token"], lease["launch"])
        self.raw["attempts"].append(document)
        item["state"] = outcome
        entry["attempts"] = attempt.number
        state = "COMPLETED" if done else "FIZZLED"
        data = documents.outcome_data(attempt)
        ended = launches.ended(item["fw_id"], decode(Lease, lease), state, NOW, data)
        self.raw["launches"][-1] |= ended
        if done:
            record = histories.record_document(record_of(claim), item, claim.stage.level.id, NOW)
            self.raw["records"].append({"_id": claim.key} | record)
            self._release(item)
        elif outcome == "READY":
            self._archive(item)
        else:
            item["failure"] = {"reason": "no rung is left", "remedy": "look"}
            entry["since"] = attempt.number
        return self.refresh()

    def cancel(self) -> bool:
        for item in self.raw["fireworks"]:
            if item["state"] in ("READY", "WAITING"):
                item["state"] = "DEFUSED"
                self._archive(item)
        return self.refresh()

    def refresh(self) -> bool:
        states = [item["state"] for item in self.raw["fireworks"]]
        ids = [str(item["fw_id"]) for item in self.raw["fireworks"]]
        self.raw["workflows"][0] |= {
            "state": documents.chain_state(tuple(states)),
            "fw_states": dict(zip(ids, states, strict=True)),
        }
        return True

    def _claim(self, item: Document, lease: Document) -> Claim:
        entry = item["spec"]["qfarm"]
        stage = self.plan.stages[entry["position"]]
        fragment = self.plan.fragment
        return Claim(
            entry["key"], entry["workflow"], fragment, fragment, stage, (), lease["number"],
            lease["token"], worker(), NOW,
        )  # fmt: skip

    def _release(self, item: Document) -> None:
        for other in self.raw["fireworks"]:
            after = item["spec"]["qfarm"]["position"] + 1
            if other["spec"]["qfarm"]["position"] == after and other["state"] == "WAITING":
                other["state"] = "READY"

    def _archive(self, item: Document) -> None:
        every = {*item["launches"], *item["archived_launches"]}
        item |= {"launches": [], "archived_launches": sorted(every)}


def life(plan: Plan, steps: Sequence[str], first_id: int, launch_ids: Iterator[int]) -> Raw:
    """Documents of a workflow after some steps: claim, cancel, or the state an attempt leads to."""
    one = Simulated(plan, first_id, launch_ids)
    for step in steps:
        one.claim() if step != "cancel" else one.cancel()
        if step not in ("claim", "cancel"):
            one.end(step)
    return one.raw


def together(raws: Iterable[Raw]) -> Raw:
    whole: Raw = {name: [] for name in COLLECTIONS}
    for raw in raws:
        for name, found in raw.items():
            whole[name] += found
    return whole


def farm(random: Random, workflows: int) -> Raw:
    """Documents of a consistent farm, made at random."""
    launch_ids, fw_ids = count(1), count(1, 10)
    chosen = random.sample(sorted(PLANS), workflows)
    steps = ["claim", "READY", "COMPLETED", "COMPLETED", "COMPLETED", "READY", "FIZZLED"]
    cancel = ["cancel"]
    lives = [
        random.choices(steps, k=random.randrange(8)) + cancel * (random.random() < 0.1)
        for _ in chosen
    ]
    return together(
        life(PLANS[key], steps, next(fw_ids), launch_ids)
        for key, steps in zip(chosen, lives, strict=True)
    )


def lived(number: int, steps: Sequence[str]) -> Raw:
    """Documents of the two-stage workflow of this number after some steps."""
    return life(TWO_STAGES[number], steps, 10 * number + 1, count(100 * number + 1))


DONE = ("READY", "COMPLETED", "READY", "COMPLETED")
LIVES = (
    DONE,
    ("READY", "COMPLETED", "claim"),
    ("READY", "COMPLETED"),
    ("READY",),
    ("READY", "COMPLETED", "FIZZLED"),
)
"""Every state of a stage occurs in one of them."""


def done_farm() -> Raw:
    """A workflow in which all is done, after one failed attempt at each stage."""
    return lived(0, DONE)


def tools() -> Tools:
    def plan(key: str, *_: object) -> Plan | None:
        return PLANS.get(key)

    ids = count(10**6)
    return Tools(FACTS, plan, ids, ids)


FACTS = Facts(
    NOW,
    stages=frozenset((PREOPT.id, SINGLE_POINT.id)),
    fragments=frozenset(plan.fragment.id for plan in PLANS.values()),
)


def keys(raw: Raw) -> list[str]:
    return [group.key for group in grouped(raw).groups]


def store(database: Database[Document], raw: Raw, now: datetime) -> None:
    """Write documents of `farm` into an empty farm; leases run from now on."""
    for item in raw["fireworks"]:
        if "lease" in item:
            item["lease"] |= {"claimed": now - timedelta(seconds=30), "expires": now + HOUR}
    used = {item["spec"]["qfarm"]["workflow"] for item in raw["fireworks"]}
    for plan in (PLANS[key] for key in sorted(used)):
        database["fragments"].insert_one({"_id": plan.fragment.id} | encode(plan.fragment))
    for stage in (PREOPT, SINGLE_POINT):
        database["stages"].insert_one({"_id": stage.id} | encode(stage))
    for name, found in raw.items():
        if found:
            database[name].insert_many(found)
    database["fw_id_assigner"].update_one({}, {"$set": {"next_fw_id": 10**4}})
    database["fw_id_assigner"].update_one({}, {"$set": {"next_launch_id": 10**4}})
