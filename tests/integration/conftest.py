"""Integration tests run against the real services of ``tests/conftest.py``."""

from __future__ import annotations

import pytest
from pymongo import MongoClient

from foreshard.model import ShardedCollection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def alpha(partition_clients) -> MongoClient:
    return partition_clients["alpha"]


@pytest.fixture
def trips(unique_name) -> ShardedCollection:
    return ShardedCollection(unique_name, "trips", "station")
