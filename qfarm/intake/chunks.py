"""Chunks: how much is examined, looked up or written at once, so that memory stays bounded."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

CHUNK: Final = 2_000
"""Items of a chunk at the most."""

HEAVY: Final = 100_000
"""Atoms after which a chunk takes no further item; their text takes some 10 MB."""

Item = TypeVar("Item")


def chunks(items: Iterable[Item], atoms: Callable[[Item], int]) -> Iterator[tuple[Item, ...]]:
    """Cut into tuples of at most `CHUNK` items, fewer where they are large.

    Parameters
    ----------
    items : iterable
        What to cut.
    atoms : callable
        Number of atoms of an item.
    """
    chunk: list[Item] = []
    weight = 0
    for item in items:
        chunk.append(item)
        weight += atoms(item)
        if len(chunk) == CHUNK or weight > HEAVY:
            yield tuple(chunk)
            chunk, weight = [], 0
    if chunk:
        yield tuple(chunk)
