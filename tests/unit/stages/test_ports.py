"""The DAGs call stages by name, where mypy cannot check the ports. So this test does."""

import inspect

import pytest

from foreshard.stages import _ports
from foreshard.wiring import Wiring

PORTS = [port for name, port in inspect.getmembers(_ports, inspect.isclass) if name.startswith("With")]


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port.__name__)
def test_the_wiring_has_every_port(port: type) -> None:
    members = [name for name in vars(port) if not name.startswith("_")]
    provided = {*dir(Wiring), "settings"}
    assert members
    assert set(members) <= provided
