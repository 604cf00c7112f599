"""The core of fsck: a consistent farm has no findings; every single spoil is found and cured."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfarm.store import histories
from qfarm.store.fsck.changes import Aside, Change, apply
from qfarm.store.fsck.cure import check, cure
from qfarm.store.fsck.model import SETTLE, Facts, Finding, Raw, grouped
from qfarm.store.fsck.sweeps import Index, stretches
from qfarm.store.fsck.table import INVARIANTS
from support.fsck import FACTS, LIVES, NOW, farm, keys, lived, tools
from support.fsck_spoils import SPOILS

SEEDS = st.integers(0, 2**32)


def found(raw: Raw, facts: Facts = FACTS) -> list[Finding]:
    return [item for group in grouped(raw).groups for item in check(group, facts)]


def cured(raw: Raw) -> tuple[Raw, list[Change], list[Finding]]:
    """All workflows cured; the changes, and what is left."""
    kit, changes, left = tools(), [], []
    for key in keys(raw):
        done = cure(raw, key, kit)
        raw = apply(done.changes, raw)
        changes += done.changes
        left += done.left
    return raw, changes, left


def spoiled(name: str, seed: int = 0) -> Iterator[Raw]:
    """Workflows of all lives in which this can go wrong, spoiled."""
    for number, steps in enumerate(LIVES):
        raw = lived(number, steps)
        if SPOILS[name][1](raw, Random(seed)):
            yield raw


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_consistent_farm_has_no_findings(seed: int) -> None:
    raw = farm(Random(seed), 8)
    assert found(raw) == []
    assert cured(raw)[1] == []


@pytest.mark.parametrize("name", SPOILS)
def test_every_spoil_is_found_and_cured_once(name: str) -> None:
    wanted, _ = SPOILS[name]
    everywhere = list(spoiled(name))
    assert everywhere, "no life in which this can go wrong"
    for raw in everywhere:
        assert wanted in {item.name for item in found(raw)}
        after, changes, left = cured(raw)
        assert changes
        assert left == found(after) == []
        assert cured(after)[1] == []


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(st.sampled_from(sorted(SPOILS)), min_size=2, max_size=4, unique=True))
def test_several_spoils_at_once(seed: int, names: list[str]) -> None:
    random = Random(seed)
    raw = farm(random, 2)
    try:
        for name in names:
            SPOILS[name][1](raw, random)
    except (KeyError, TypeError, AttributeError):
        return  # the second spoil expects what the first has spoiled
    before = deepcopy(raw)
    after, changes, left = cured(raw)
    assert left == found(after) == []
    assert raw == before, "the core changes its own copy"
    assert_nothing_invented(before, after, changes)


@pytest.mark.parametrize("name", SPOILS)
def test_no_cure_invents_a_result_or_loses_one(name: str) -> None:
    for raw in spoiled(name):
        after, changes, _ = cured(raw)
        assert_nothing_invented(raw, after, changes)


def assert_nothing_invented(before: Raw, after: Raw, changes: list[Change]) -> None:
    """Records are those of before, whole, or aside; each is borne out by the one success."""
    were = {item["_id"]: item for item in before["records"]}
    for record in after["records"]:
        assert content(record) == content(were[record["_id"]])
    aside = {item.identity for item in changes if isinstance(item, Aside)}
    assert set(were) - {item["_id"] for item in after["records"]} <= aside
    successes = [i["key"] for i in after["attempts"] if i["outcome"]["status"] == "success"]
    assert sorted(successes) == sorted(record["_id"] for record in after["records"])
    assert {item["_id"] for item in before["attempts"]} <= {i["_id"] for i in after["attempts"]}


def content(record: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name != "store"}


def test_what_cures_write_can_be_read() -> None:
    for name in SPOILS:
        for raw in spoiled(name):
            after, _, _ = cured(raw)
            for attempt in after["attempts"]:
                histories.read_attempt(attempt)


def test_every_invariant_of_a_workflow_can_be_violated() -> None:
    with_repair = {item.name for item in INVARIANTS if item.repair is not None}
    assert with_repair == {wanted for wanted, _ in SPOILS.values()}


def test_names_are_unique_and_texts_are_there() -> None:
    names = [item.name for item in INVARIANTS]
    assert len(names) == len(set(names))
    assert all(item.means and item.cure and item.per for item in INVARIANTS)


def claimed(seconds: float) -> Raw:
    """A stage claimed so long ago, of which FireWorks' collections do not know yet."""
    raw = lived(0, ("claim",))
    raw["launches"] = []
    raw["fireworks"][0]["lease"]["claimed"] = NOW - timedelta(seconds=seconds)
    states = {"state": "READY", "fw_states": {"1": "READY", "2": "WAITING"}}
    raw["workflows"][0] |= states
    return raw


def test_a_claim_may_take_a_moment_to_show() -> None:
    assert found(claimed(1.0)) == []
    late = claimed(SETTLE.total_seconds() + 1)
    names = {item.name for item in found(late)}
    assert names == {"launch state", "launch list", "workflow state"}
    after, _, left = cured(late)
    assert left == []
    assert [item["state"] for item in after["launches"]] == ["RUNNING"]
    assert after["fireworks"][0]["lease"] == late["fireworks"][0]["lease"]


def test_a_lease_is_given_its_grace() -> None:
    raw = lived(0, ("claim",))
    for ago, wrong in ((0.0, False), (79.0, False), (81.0, True)):
        raw["fireworks"][0]["lease"]["expires"] = NOW - timedelta(seconds=ago)
        assert bool(found(raw)) == wrong


def test_an_expired_lease_goes_back_with_its_budget() -> None:
    raw = lived(0, ("READY", "claim"))
    raw["fireworks"][0]["lease"]["expires"] = NOW - timedelta(hours=1)
    after, _, _ = cured(raw)
    item = after["fireworks"][0]
    assert item["state"] == "READY"
    assert "lease" not in item
    assert (item["spec"]["qfarm"]["attempts"], item["spec"]["qfarm"]["since"]) == (1, 0)
    assert [launch["state"] for launch in after["launches"]] == ["FIZZLED", "FIZZLED"]


def test_a_lost_record_is_computed_again_and_the_success_says_so() -> None:
    raw = lived(0, ("COMPLETED",))
    raw["records"] = []
    after, _, _ = cured(raw)
    states = [item["state"] for item in after["fireworks"]]
    assert states == ["READY", "WAITING"]
    (attempt,) = after["attempts"]
    assert attempt["outcome"]["kind"] == "lost-worker"
    assert attempt["store"]["outcome"] == {"status": "success"}


def test_what_nobody_can_repair_is_left_and_named() -> None:
    raw = lived(0, ("COMPLETED",))
    facts = Facts(NOW, stages=frozenset(), fragments=frozenset())
    assert {item.name for item in found(raw, facts)} == {"contents"}
    raw["fireworks"][1]["spec"]["qfarm"]["stage_ids"] = ["s1", "s2"]
    assert {item.name for item in cured(raw)[2]} == {"all stages", "contents"}


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"key": 1}])
def test_any_garbage_in_an_entry_is_a_finding_not_a_crash(value: object) -> None:
    raw = lived(0, ("COMPLETED",))
    raw["fireworks"][1]["spec"]["qfarm"] = value
    assert {item.name for item in found(raw)} >= {"entry"}
    raw["fireworks"][1]["spec"] = value
    assert {item.name for item in found(raw)} >= {"entry"}


GARBAGE: list[object] = [None, 7, -1, 2**62, "x", "", [], [None], ["x"], {}, {"a": 1}, True, 1.5]


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from(GARBAGE))
def test_garbage_anywhere_never_crashes(seed: int, value: object) -> None:
    random = Random(seed)
    raw = farm(random, 2)
    documents = [item for name in raw for item in raw[name]]
    item = random.choice(documents)
    while True:
        name = random.choice(sorted(set(item) - UNIQUE) or ["state"])
        if not (isinstance(item.get(name), dict) and item[name] and random.random() < 0.7):
            break
        item = item[name]
    item[name] = value
    found(raw)
    cured(raw)


UNIQUE = {"_id", "fw_id", "launch_id"}


@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=3)), min_size=1, max_size=3))
def test_sorted_lists_side_by_side(lists: list[list[str]]) -> None:
    """Each text comes in one stretch, in which it is in all lists that hold it."""
    held = {str(place): sorted(texts) for place, texts in enumerate(lists)}

    def read(index: Index, after: str, size: int) -> list[str]:
        return [text for text in held[index.collection] if text > after][:size]

    indexes = [Index(name, "", str) for name in held]
    seen: set[str] = set()
    for stretch in stretches(read, indexes, size=2):
        now = set().union(*stretch)
        assert not now & seen
        assert [set(texts) for texts in stretch] == [set(held[n]) & now for n in held]
        seen |= now
    assert seen == set().union(*held.values())
