"""Makes the next item of an iterator in a thread while the last one is used.

Parsing and cleaning run outside of Python's lock for most of their time, so two stages use two cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items in order, each made while the one before is used. Memory holds one more. Errors come in their place."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, "one-ahead") as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]
