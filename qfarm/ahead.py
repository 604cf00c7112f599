"""Ahead: one thing is made while the one before it is used. Pure."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Make the next item in a thread while the current one is used; none of them is None."""
    with ThreadPoolExecutor(1) as helper:
        coming = helper.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = helper.submit(next, items, None)
            yield item
