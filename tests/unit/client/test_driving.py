"""One core, run with and without an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from foreshard.client._driving import ASYNC, SYNC, resolved, run


async def doubled(number: int) -> int:
    return number * 2


def test_a_coroutine_that_never_suspends_runs_without_an_event_loop() -> None:
    async def core() -> int:
        return await resolved(3) + await resolved(doubled(2)) + await SYNC.blocking(lambda: 5)

    assert run(core()) == 12
    assert asyncio.run(core()) == 12


def test_errors_pass_through_and_suspending_is_an_error() -> None:
    async def failing() -> None:
        await resolved(doubled(1))
        raise KeyError("k")

    async def waiting() -> None:
        await asyncio.sleep(0.01)

    with pytest.raises(KeyError):
        run(failing())
    with pytest.raises(RuntimeError, match="event loop"):
        run(waiting())


def test_both_modes_run_several_coroutines_at_once_and_keep_their_order() -> None:
    meeting = threading.Barrier(3, timeout=10)

    async def meet(number: int) -> int:
        await resolved(meeting.wait())  # the synchronous driver blocks a thread
        return number

    assert run(SYNC.together([meet(n) for n in range(3)])) == [0, 1, 2]

    async def both() -> list[int]:
        events = [asyncio.Event(), asyncio.Event()]

        async def swap(mine: int) -> int:
            events[mine].set()
            await events[1 - mine].wait()
            return mine

        return await ASYNC.together([swap(0), swap(1)])

    assert asyncio.run(both()) == [0, 1]


def test_the_first_of_several_errors_is_raised() -> None:
    async def fail(number: int) -> int:
        if number:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="1"):
        run(SYNC.together([fail(n) for n in range(3)]))


def test_a_blocking_call_leaves_the_event_loop_free() -> None:
    freed = threading.Event()

    async def both() -> bool:
        waiting = asyncio.ensure_future(ASYNC.blocking(lambda: freed.wait(10)))
        await asyncio.sleep(0)
        freed.set()
        return await waiting

    assert asyncio.run(both()) is True
