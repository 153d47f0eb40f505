"""A fence and an app's open transaction on a real mongod: the fence waits without making other writers wait."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from pymongo.errors import OperationFailure
from tests.integration.fences import FENCE_TIMEOUT, in_force, nothing, refused

from foreshard.errors import FenceTimedOut
from foreshard.stores.partition.fences import fence as fences
from foreshard.stores.partition.fences._open_transactions import is_free
from foreshard.stores.partition.fences.fence import MongoFence


@pytest.fixture
def attempts(alpha):
    """The ``collMod`` commands of the server since the test began."""
    counters = alpha.admin.command("serverStatus")["metrics"]["commands"]["collMod"]
    before = counters["total"]
    return lambda: alpha.admin.command("serverStatus")["metrics"]["commands"]["collMod"]["total"] - before


@pytest.fixture
def held(alpha, trips):
    """An open transaction of another key, until it is committed."""
    collection = alpha[trips.database][trips.collection]
    collection.insert_one({"_id": "other", "station": "other"})
    with alpha.start_session() as session:
        session.start_transaction()
        collection.update_one({"_id": "other"}, {"$set": {"n": 1}}, session=session)
        yield session
        if session.in_transaction:
            session.abort_transaction()


def namespace(trips) -> str:
    return f"{trips.database}.{trips.collection}"


def wait_until_held(alpha, trips) -> None:
    while is_free(alpha, namespace(trips)):
        time.sleep(0.01)


def test_a_fence_waits_for_an_open_transaction_without_trying_and_is_set_when_it_ends(alpha, trips, held, attempts):
    fence = MongoFence(alpha, trips, expected=nothing, timeout=timedelta(seconds=60))
    wait_until_held(alpha, trips)
    setting = threading.Thread(target=fence.fence, args=(["a"],))
    setting.start()
    setting.join(1.0)
    assert setting.is_alive()
    assert attempts() == 0
    assert not refused(alpha, trips, {"station": "b"})
    held.commit_transaction()
    setting.join()
    assert in_force(fence) == {"a"}


def test_a_probe_says_that_the_lock_is_taken_without_a_command(alpha, trips, held, attempts):
    fence = MongoFence(alpha, trips, expected=nothing, timeout=FENCE_TIMEOUT)
    wait_until_held(alpha, trips)
    with pytest.raises(FenceTimedOut):
        fence.probe()
    held.commit_transaction()
    fence.probe()
    assert attempts() == 0


def test_a_transaction_of_another_collection_is_not_waited_for(alpha, trips, unique_name):
    other = alpha[trips.database]["other"]
    other.insert_one({"_id": 1})
    alpha[trips.database].create_collection(trips.collection)
    with alpha.start_session() as session, session.start_transaction():
        other.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        time.sleep(0.1)
        assert is_free(alpha, namespace(trips))


def test_without_the_right_to_look_attempts_are_few(alpha, trips, held, attempts, monkeypatch):
    def forbidden(*_arguments):
        return None

    monkeypatch.setattr(fences, "is_free", forbidden)
    fence = MongoFence(alpha, trips, expected=nothing, timeout=timedelta(seconds=2))
    with pytest.raises(FenceTimedOut):
        fence.fence(["a"])
    assert 1 <= attempts() <= 9
    held.commit_transaction()
    fence.fence(["a"])
    assert in_force(fence) == {"a"}


def test_a_server_that_forbids_to_look_says_nothing():
    class Forbidding:
        admin = property(lambda self: self)

        def command(self, *_arguments):
            raise OperationFailure("not authorized", 13)

    assert is_free(Forbidding(), "a.b") is None
