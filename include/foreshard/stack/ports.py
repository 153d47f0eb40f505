"""The loopback ports of a stack: the documented ones, or free ones for tests."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass

FIRST_MONGOD = 27117


@dataclass(frozen=True, slots=True)
class PortPlan:
    """The port of each process of a stack."""

    mongods: tuple[int, ...]
    kafka: int = 19092
    kafka_controller: int = 19093
    airflow: int = 28080
    worker_logs: int = 28793
    triggerer_logs: int = 28794
    sidecar: int = 7788
    exporter: int = 7789

    def as_dict(self) -> dict[str, object]:
        """Return the ports for ``stack.json``."""
        return asdict(self)


def documented_ports(mongods: int) -> PortPlan:
    """Return the documented ports. ``FORESHARD_STACK_AIRFLOW_PORT`` and similar variables change one."""
    plan = PortPlan(tuple(range(FIRST_MONGOD, FIRST_MONGOD + mongods))).as_dict()
    chosen = {
        name: int(os.environ.get(f"FORESHARD_STACK_{name.upper()}_PORT", str(port)))
        for name, port in plan.items()
        if isinstance(port, int)
    }
    first = int(os.environ.get("FORESHARD_STACK_MONGOD_PORT", str(FIRST_MONGOD)))
    return PortPlan(tuple(range(first, first + mongods)), **chosen)


def free_ports(mongods: int) -> PortPlan:
    """Return different ports that were free a moment ago."""
    with ExitStack() as held:
        found = []
        for _ in range(mongods + 7):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
    return PortPlan(tuple(found[:mongods]), *found[mongods:])
