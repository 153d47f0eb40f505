"""The next item is made while the last one is used, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from foreshard.observe.ahead import one_ahead


def test_items_come_in_order_and_an_error_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file breaks off")

    items = one_ahead(broken())
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(OSError, match="breaks off"):
        next(items)
    assert list(one_ahead([])) == []


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    asked = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(asked):
            event.set()
            yield number

    for number in one_ahead(items()):
        if number < 2:
            assert asked[number + 1].wait(10)


def test_a_reader_that_stops_early_ends_the_thread() -> None:
    before = threading.active_count()
    items = one_ahead(iter(range(100)))
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before
