"""The documents of a backup by workflow: in order, each where it belongs, in small batches."""

from typing import Any

import bson
import pytest

from qfarm.store.backup import BackupError
from qfarm.store.merge import index
from qfarm.store.merge.index import Index

Doc = dict[str, Any]


class File:
    """Stands for a verified backup."""

    def __init__(self, **collections: list[Any]) -> None:
        self._found = collections
        self.manifest = self
        self.collections = [Saved(name, len(items)) for name, items in collections.items()]

    def documents(self, saved: "Saved") -> Any:
        return (i if isinstance(i, bytes) else bson.encode(i) for i in self._found[saved.name])


class Saved:
    def __init__(self, name: str, documents: int) -> None:
        self.name, self.documents = name, documents


def filled(file: File) -> Index:
    made = Index()
    made.fill(file, lambda _: None)  # type: ignore[arg-type]
    return made


def firework(key: object, number: int) -> Doc:
    return {"fw_id": number, "spec": {"qfarm": {"workflow": key}}}


def test_parts_of_a_workflow_come_together_in_order_of_submission() -> None:
    file = File(
        attempts=[{"key": "b.x", "n": 1}, {"key": "a.x", "n": 2}, {"key": "gone.x"}, {"key": 7}],
        fireworks=[
            firework("b", 1),
            firework("a", 2),
            firework("b", 3),
            {"spec": 1},
            firework(7, 4),
        ],
        records=[{"key": "b.y"}, {}],
        users_own=[{"_id": 1}],
    )
    found = filled(file)
    assert (found.workflows, found.foreign) == (2, 2)
    ((first, second),) = found.batches()
    assert [item["fw_id"] for item in first.fireworks] == [1, 3]
    assert (first.key, [i["n"] for i in first.attempts]) == ("b", [1])
    assert (second.key, [i["n"] for i in second.attempts]) == ("a", [2])
    assert ([i["key"] for i in first.records], list(second.records)) == (["b.y"], [])


@pytest.mark.parametrize(("name", "limit"), [("_WORKFLOWS", 3), ("_BYTES", 150)])
def test_batches_are_small(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    monkeypatch.setattr(index, name, limit)
    monkeypatch.setattr(index, "_MANY", 4)
    found = filled(File(fireworks=[firework(f"w{number}", number) for number in range(10)]))
    batches = [[parts.key for parts in batch] for batch in found.batches()]
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert [key for batch in batches for key in batch] == [f"w{number}" for number in range(10)]


def test_contents_are_found_by_id_and_collection() -> None:
    twice = [{"_id": "x", "n": 1}, {"_id": "x", "n": 2}, {"_id": 3}]
    found = filled(File(fragments=twice, stages=[{"_id": "y"}]))
    assert found.content("fragments", "x") == {"_id": "x", "n": 1}
    assert found.content("stages", "x") is None
    assert found.content("fragments", "y") is None


def test_what_is_no_document_is_refused() -> None:
    broken = bson.encode(firework("a", 1))
    with pytest.raises(BackupError, match="no document"):
        filled(File(fireworks=[broken[:20] + b"\xff" * (len(broken) - 20)]))
