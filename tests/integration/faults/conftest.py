from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.client.looped import collect_cancelled_sockets
from tests.integration.faults.deployment import Deployment

from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod


@pytest.fixture(scope="session")
def own_mongods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mongod, ...]]:
    """A control database and two partitions that tests may stop and must start again."""
    folder = tmp_path_factory.mktemp("own")
    made = tuple(Mongod(name, free_port(), folder / name) for name in ("control", "alpha", "beta"))
    try:
        for mongod in made:
            mongod.start()
        yield made
    finally:
        for mongod in made:
            mongod.stop()


@pytest.fixture
def deployment(own_mongods: tuple[Mongod, ...], tmp_path: Path, unique_name: str) -> Iterator[Deployment]:
    """Running databases. Nothing is published, and no sidecar runs yet."""
    for mongod in own_mongods:
        mongod.start()
    made = Deployment(own_mongods, tmp_path, unique_name, free_port())
    yield made
    for name in ("sidecar", "load"):
        made.stop(name)


@pytest.fixture(autouse=True, scope="module")
def cancelled_sockets_stay_here() -> Iterator[None]:
    """Collect the remains of asynchronous clients before other tests run."""
    yield
    collect_cancelled_sockets()
