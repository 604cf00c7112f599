"""What a worker holds: committed together, given back, and never lost on the way."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from qfarm.errors import StoreError
from qfarm.ladder import Ladder
from qfarm.store.protocol import Claim, Ended, Store
from qfarm_schemas.failure import FailureKind
from qfarm_workers import batch, log
from qfarm_workers.finished import unfinished
from qfarm_workers.hand import Hand
from support import build
from support.claims import claim


class Shelf:
    """The two calls of a store that a hand makes."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.released: list[str] = []
        self.away = False
        self.poison = ""
        self.lost = ""

    def commit_many(self, ended: Sequence[Ended]) -> tuple[bool, ...]:
        keys = [item.claim.key for item in ended]
        if self.away:
            raise StoreError("MongoDB does not answer")
        if self.poison in keys:
            raise ValueError(f"{self.poison} cannot be written")
        self.commits.append(keys)
        return tuple(key != self.lost for key in keys)

    def release(self, claims: Sequence[Claim]) -> None:
        if self.away:
            raise StoreError("MongoDB does not answer")
        self.released += [one.key for one in claims]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def hand(shelf: Shelf, tmp_path: Path) -> Iterator[Hand]:
    with log.to_file(tmp_path / "log.jsonl") as lines:
        yield Hand(cast(Store, shelf), None, lines)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


def of(name: str, **fields: Any) -> Claim:
    return claim(key=f"{name}.single_point", workflow=name, **fields)


def keep(hand: Hand, *names: str) -> None:
    for name in names:
        failure = build.failure(FailureKind.CRASHED)
        one = of(name)
        hand.keep(one, unfinished(one, one.worker, failure, Ladder()))


def keys(*names: str) -> list[str]:
    return [f"{name}.single_point" for name in names]


def test_what_is_finished_is_committed_together_and_what_waits_given_back(
    hand: Hand, shelf: Shelf
) -> None:
    keep(hand, "a", "b", "c")
    hand.waiting.extend([of("d"), of("e")])
    hand.put_back([of("f")])
    hand.clear()
    assert shelf.commits == [keys("a", "b", "c")]
    assert sorted(shelf.released) == keys("d", "e", "f")
    assert hand.committed == 3
    hand.clear()
    assert len(shelf.commits) == 1
    assert len(shelf.released) == 3


def test_after_an_outage_it_goes_on_where_it_was(hand: Hand, shelf: Shelf) -> None:
    keep(hand, "a")
    hand.waiting.append(of("b"))
    shelf.away = True
    with pytest.raises(StoreError):
        hand.clear()
    shelf.away = False
    hand.clear()
    assert shelf.commits == [keys("a")]
    assert shelf.released == keys("b")


def test_a_claim_once_given_back_is_never_begun(hand: Hand, shelf: Shelf) -> None:
    """The store may have done it although its answer was lost."""
    hand.waiting.append(of("a"))
    shelf.away = True
    with pytest.raises(StoreError):
        hand.clear()
    assert not hand.waiting


def test_a_lost_claim_is_told_and_counts_for_nothing(
    hand: Hand, shelf: Shelf, tmp_path: Path
) -> None:
    shelf.lost = "b.single_point"
    keep(hand, "a", "b")
    hand.clear()
    assert hand.committed == 1
    assert [line["event"] for line in lines(tmp_path)] == ["attempt", "dropped"]


def test_an_attempt_that_cannot_be_written_harms_no_other(hand: Hand, shelf: Shelf) -> None:
    shelf.poison = "b.single_point"
    keep(hand, "a", "b", "c")
    hand.waiting.append(of("d"))
    with pytest.raises(ValueError, match="cannot be written"):
        hand.clear()
    assert shelf.commits == [keys("a"), keys("c")]
    hand.clear()
    assert shelf.released == keys("d")
    assert hand.committed == 2


def test_due_when_the_first_is_old(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hand.due()
    keep(hand, "a")
    assert not hand.due()
    monkeypatch.setattr(batch, "SECONDS", 0.0)
    assert hand.due()


def test_two_stages_of_a_workflow_are_never_committed_together(hand: Hand) -> None:
    keep(hand, "a")
    hand.waiting.append(of("b"))
    assert not hand.due()
    hand.waiting.append(of("a"))
    assert hand.due()
