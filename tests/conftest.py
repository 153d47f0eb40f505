"""Real services for the tests that need them: one control mongod, three partitions and one Kafka broker for the whole run.

Tests share the processes and use their own databases and topics.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from pymongo import MongoClient

from foreshard.stack._process import free_port
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod

settings.register_profile("foreshard", deadline=None)
settings.load_profile("foreshard")


@pytest.fixture(scope="session")
def mongods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mongod, ...]]:
    """Four replica sets of one node: control first, then three for partitions."""
    folder = tmp_path_factory.mktemp("mongods")
    started = tuple(Mongod(name, free_port(), folder / name) for name in ("control", "alpha", "beta", "gamma"))
    try:
        for mongod in started:
            mongod.start()
        yield started
    finally:
        for mongod in started:
            mongod.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One KRaft broker."""
    broker = Kafka(free_port(), free_port(), tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture
def unique_name() -> str:
    """A database or topic name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def control(mongods: tuple[Mongod, ...], unique_name: str) -> Iterator[MongoClient]:
    """A client of the control replica set. The database ``unique_name`` is dropped afterwards."""
    with MongoClient(mongods[0].uri, tz_aware=True, w="majority") as client:
        yield client
        client.drop_database(unique_name)


@pytest.fixture
def partition_clients(mongods: tuple[Mongod, ...], unique_name: str) -> Iterator[dict[str, MongoClient]]:
    """Clients of the partitions ``alpha``, ``beta`` and ``gamma``. The database ``unique_name`` is dropped afterwards."""
    clients = {m.name: MongoClient(m.uri, tz_aware=True, w="majority") for m in mongods[1:]}
    yield clients
    for client in clients.values():
        client.drop_database(unique_name)
        client.close()


@pytest.fixture
def work_folder(tmp_path: Path) -> Path:
    return tmp_path
