"""How long and how often a ``collMod`` is tried, and which locks an open transaction is recognised by."""

from __future__ import annotations

import pytest

from foreshard.stores.partition.fences import _open_transactions as transactions
from foreshard.stores.partition.fences._open_transactions import limit_ms, pause_seconds


@pytest.mark.parametrize("known", [None, False])
def test_while_the_lock_may_be_taken_no_write_waits_long_and_attempts_are_a_tenth_of_the_time(known):
    for attempt in range(100):
        limit = limit_ms(attempt, known)
        assert limit < 50
        assert pause_seconds(limit, known) * 1000 >= 10 * limit


def test_a_slow_server_whose_lock_is_free_gets_more_time_at_once():
    assert [limit_ms(attempt, True) for attempt in range(6)] == [20, 40, 80, 160, 300, 300]
    assert pause_seconds(300, True) == 0


def test_only_holders_of_the_collection_that_no_operation_runs_for_count():
    transaction, running = {"mode": "IX", "debugInfo": "lsid: one"}, {"mode": "IX", "clientInfo": {}, "debugInfo": "lsid: two"}
    locks = [
        {"resourceId": "{735: Collection, 43, app.trips}", "granted": [transaction, running], "pending": [{"mode": "X"}]},
        {"resourceId": "{735: Collection, 44, app.trips2}", "granted": [{"mode": "IX", "debugInfo": "lsid: three"}]},
        {"resourceId": "{504: Database, 45, app}", "granted": [{"mode": "IX", "debugInfo": "lsid: four"}]},
    ]
    assert transactions._holders(locks, "app.trips") == ["lsid: one"]
