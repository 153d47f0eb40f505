"""The services of the proofs: the run's mongods, and a process that forks children."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.move_proofs.deployment import Proof, settings_of
from tests.move_proofs.nursery import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A process that forks children."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()


@pytest.fixture
def proof(request, mongods, unique_name, nursery, control) -> Iterator[Proof]:
    """A deployment on alpha and beta with a published table."""
    uris = {m.name: m.uri for m in mongods[1:3]}
    by_slot = getattr(request, "param", "key") == "slot"
    made = Proof(settings_of(mongods[0].uri, unique_name), uris, nursery, ("Embarcadero $1.é",), by_slot)
    made.publish()
    yield made
    for client in made.clients.values():
        client.drop_database(unique_name)
    made.close()
