"""The spool gives back what was put in, in chunks that memory can hold."""

from collections.abc import Iterator

import pytest

from qfarm.ahead import ahead
from qfarm.intake import chunks
from qfarm.intake.spool import Press, Spool, open_spool
from qfarm.plan import Plan, plan
from support.intake import PROTOCOL
from support.work import water


def planned(index: int) -> Plan:
    found = plan(water(index, tags=("a", "b"), source=f"é.xyz#{index}"), PROTOCOL)
    assert isinstance(found, Plan)
    return found


def test_plans_come_back_as_they_were() -> None:
    plans, press = [planned(index) for index in range(3)], Press(PROTOCOL)
    with open_spool() as handle:
        spool = Spool(handle)
        for one in plans:
            spool.put(press.line(one))
        (back,) = spool.plans(PROTOCOL)
    assert list(back) == plans
    assert [one.fragment.positions.tobytes() for one in back] == [
        one.fragment.positions.tobytes() for one in plans
    ]


def test_chunks_of_large_items_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4)
    monkeypatch.setattr(chunks, "HEAVY", 10)
    sizes = [1, 1, 1, 1, 1, 11, 5, 5, 5, 1]
    cut = list(chunks.chunks(sizes, lambda size: size))
    assert cut == [(1, 1, 1, 1), (1, 11), (5, 5, 5), (1,)]


def test_what_is_made_ahead_comes_in_order_and_its_errors_too() -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise OSError("disk")

    assert list(ahead(iter(range(1, 9)))) == list(range(1, 9))
    seen: list[int] = []
    with pytest.raises(OSError, match="disk"):
        seen.extend(ahead(broken()))
    assert seen == [0, 1, 2]
