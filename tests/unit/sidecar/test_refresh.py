"""Refreshes are shared, read after the request, and limited in time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from foreshard.errors import Unreachable
from foreshard.sidecar._problems import Problem
from foreshard.sidecar._refresh import Refresher


def test_many_requests_share_two_reads_and_none_gets_a_read_that_began_before_it():
    begun = threading.Event()
    go_on = threading.Event()
    reads: list[int] = []

    def sync() -> int:
        reads.append(len(reads) + 1)
        begun.set()
        go_on.wait(5)
        return reads[-1]

    async def ask() -> list[int]:
        refresher = Refresher(sync, timeout=10)
        first = asyncio.create_task(refresher())
        await asyncio.to_thread(begun.wait, 5)
        late = [asyncio.create_task(refresher()) for _ in range(100)]
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(first, *late)
        refresher.close()
        return answers

    assert asyncio.run(ask()) == [1] + [2] * 100
    assert reads == [1, 2]


def test_a_database_that_does_not_answer_is_a_problem_and_the_next_request_tries_again():
    results = [Unreachable("control database", "db:1", "start it"), 4]

    def sync() -> int:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def ask() -> int:
        refresher = Refresher(sync)
        with pytest.raises(Problem, match="control database does not answer"):
            await refresher()
        return await refresher()

    assert asyncio.run(ask()) == 4


def test_a_read_that_takes_too_long_is_a_problem():
    go_on = threading.Event()

    async def ask() -> None:
        refresher = Refresher(lambda: go_on.wait(5) and 1, timeout=0.05)
        with pytest.raises(Problem, match="TimeoutError"):
            await refresher()
        go_on.set()
        refresher.close()

    asyncio.run(ask())
