"""States of stages: what runs has a live lease, what waits has a reason, what failed says why."""

from collections.abc import Iterator
from datetime import timedelta

from qfarm.store import documents
from qfarm.store.connection import Document
from qfarm.store.documents import STATES
from qfarm.store.entry import Foreign
from qfarm.store.fsck.changes import Change, Update
from qfarm.store.fsck.model import Facts, Finding, Found, Group, Stage, expiry, status
from qfarm.store.fsck.tools import Tools, move, predecessor_done, stage_of, start_over
from qfarm.store.lease import read_lease

UNDER_WAY = ("RUNNING", "RESERVED", "OFFLINE")
_REMEDY = "`qfarm show` tells of its attempts; `qfarm retry` makes it ready again."


def known(group: Group, _: Facts) -> Iterator[Found]:
    """States that FireWorks does not know."""
    for stage in group.stages:
        if not (isinstance(stage.state, str) and stage.state in STATES):
            yield Found(stage.key, f"its state is {stage.state!r:.60}")


def known_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Call it failed, as all of qfarm did already."""
    stage = stage_of(group, finding)
    reason = f"its state was {stage.state!r:.60}, which nobody knows"
    return [move(stage, "FIZZLED", tools, failure={"reason": reason, "remedy": _REMEDY})]


def lease(group: Group, facts: Facts) -> Iterator[Found]:
    """Stages under way without a lease, or under one that ended long ago."""
    for stage in group.stages:
        if stage.state in UNDER_WAY and (said := _lapsed(stage, facts)):
            yield Found(stage.key, said, sign(stage.document))


def lapsed(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Make the stage ready again under the same budgets; the token is void then."""
    return [start_over(group, stage_of(group, finding), tools)]


def sign(document: Document) -> str:
    """What changes when whoever runs the stage shows a sign of life."""
    found = document.get("lease")
    held = found if isinstance(found, dict) else {}
    return f"{document.get('state')} {held.get('token')} {held.get('expires')}"


def _lapsed(stage: Stage, facts: Facts) -> str:
    if stage.state != "RUNNING":
        return f"is {stage.state}, which qfarm never does"
    held = stage.document.get("lease")
    ends = expiry(held) if isinstance(held, dict) else None
    if not isinstance(held, dict) or ends is None:
        return "runs without a lease"
    if not isinstance(held.get("token"), str) or type(held.get("launch")) is not int:
        return "runs under a lease that cannot be read"
    seconds = held.get("seconds")
    own = timedelta(seconds=seconds) if isinstance(seconds, int | float) else timedelta()
    if facts.now > ends + max(facts.grace, own):
        return f"runs under a lease that ended at {ends:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def no_lease(group: Group, _: Facts) -> Iterator[Found]:
    """Leases of stages that do not run."""
    for stage in group.stages:
        if "lease" in stage.document and stage.state not in UNDER_WAY:
            yield Found(stage.key, f"it is {stage.state}, but has a lease")


def no_lease_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Remove the lease."""
    identity = stage_of(group, finding).document["_id"]
    return [Update("fireworks", identity, unset=("lease",))]


def released(group: Group, _: Facts) -> Iterator[Found]:
    """Stages that wait for what is done, or are ready before it is."""
    for stage in group.stages:
        if stage.state == "READY":
            if stage.entry["position"] and not predecessor_done(group, stage):
                yield Found(stage.key, "it is ready, but the stage before it is not done")
        elif stage.state == "WAITING" and predecessor_done(group, stage):
            yield Found(stage.key, "it waits, but nothing is to be waited for")


def released_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Make it ready, or let it wait."""
    stage = stage_of(group, finding)
    state = "READY" if predecessor_done(group, stage) else "WAITING"
    return [move(stage, state, tools)]


def reason(group: Group, _: Facts) -> Iterator[Found]:
    """Failed stages that do not say why."""
    for stage in group.stages:
        if stage.state == "FIZZLED":
            failure = stage.document.get("failure")
            said = failure.get("reason") if isinstance(failure, dict) else None
            if not (isinstance(said, str) and said):
                yield Found(stage.key, "it failed without a reason")


def reason_again(group: Group, finding: Finding, tools: Tools) -> list[Change]:
    """Write what the last failed attempt says; without one, that others failed it."""
    stage = stage_of(group, finding)
    failed = [item["outcome"] for item in stage.attempts if status(item) == "failure"]
    last = failed[-1] if failed else {}
    why = last.get("cause") or "it was failed by other hands (lpad?), which left no reason"
    failure = {"reason": str(why), "remedy": str(last.get("remedy") or _REMEDY)}
    fields = {"failure": failure, "updated_on": documents.iso(tools.now)}
    return [Update("fireworks", stage.document["_id"], fields)]


def strangers(fireworks: list[Document]) -> Iterator[Found]:
    """Fireworks that are not qfarm's, and run on the farm."""
    for document in fireworks:
        if document.get("state") in UNDER_WAY and isinstance(
            read_lease(document.get("lease")), Foreign
        ):
            said = f"firework {document.get('fw_id')} is not qfarm's and is {document['state']}"
            yield Found(str(document.get("fw_id")), said, sign(document))


def stop_stranger(document: Document, tools: Tools) -> list[Change]:
    """Fail it, so that nobody waits for it."""
    failure = {
        "reason": "it ran without a lease of qfarm's, found by `qfarm fsck`",
        "remedy": "see who writes to this database besides qfarm",
    }
    fields = {
        "state": "FIZZLED",
        "updated_on": documents.iso(tools.now),
        "failure": failure,
    }
    return [Update("fireworks", document["_id"], fields, ("lease",))]
