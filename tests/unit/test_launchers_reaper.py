"""The reaper's groups: many lost attempts in few commits, and only those that are still its own."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from qfarm.store.protocol import Claim, Ended, Store
from qfarm_launchers import reaper
from qfarm_launchers.reaper import GROUP, Reaper
from qfarm_workers.identity import this_process
from support.claims import claim
from support.engines import look_up


def of(name: str, stage: str = "single_point") -> Claim:
    return claim(key=f"{name}.{stage}", workflow=name)


class Graves:
    """Claims to take over; `order` is what was done one after the other."""

    def __init__(self, claims: Sequence[Claim], lost: str = "") -> None:
        self.claims = claims
        self.lost = lost
        self.order: list[str | int] = []

    def take_over(self, *arguments: Any) -> Iterator[Claim]:
        for one in self.claims:
            self.order.append(one.key)
            yield one

    def commit_many(self, ended: Sequence[Ended]) -> tuple[bool, ...]:
        assert len({item.claim.workflow for item in ended}) == len(ended)
        self.order.append(len(ended))
        return tuple(item.claim.key != self.lost for item in ended)

    @property
    def sizes(self) -> list[int]:
        return [item for item in self.order if isinstance(item, int)]


def reap(graves: Graves) -> list[str]:
    made = Reaper(cast(Store, graves), this_process("me"), look_up, 10).reap(lambda _: True)
    return [attempt.key for attempt in made]


def test_many_are_committed_in_groups_as_they_are_taken_over() -> None:
    graves = Graves([of(f"w{number}") for number in range(2 * GROUP + 3)])
    assert len(reap(graves)) == 2 * GROUP + 3
    assert graves.sizes == [GROUP, GROUP, 3]
    assert graves.order.index(GROUP) == GROUP + 1


def test_none_is_held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "GROUP_SECONDS", -1.0)
    graves = Graves([of("a"), of("b"), of("c")])
    reap(graves)
    assert graves.sizes == [1, 1, 1]


def test_what_another_took_meanwhile_is_dropped() -> None:
    assert reap(Graves([of("a"), of("b"), of("c")], lost="b.single_point")) == [
        "a.single_point",
        "c.single_point",
    ]


def test_two_stages_of_a_workflow_are_committed_one_after_the_other() -> None:
    graves = Graves([of("a"), of("b"), of("a", "preopt"), of("c")])
    assert len(reap(graves)) == 4
    assert graves.sizes == [2, 2]


def test_nothing_lost_costs_nothing() -> None:
    graves = Graves([])
    assert reap(graves) == []
    assert graves.order == []
