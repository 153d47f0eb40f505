"""Disturbances while servers are measured: stalls of the machine itself, and other processes.

A meter on each core (``hiccup.c``) runs beside server and client, before all other processes of its core: whatever delays it
would have delayed any server. The processor accounting shows how much of each round went to processes outside the measurement,
and how much the host took (steal).
"""

from __future__ import annotations

import os
import subprocess
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.sidecar_load import CLIENT_CORE, compiled, quantile

SERVER_CORE = 0
SOURCE = Path(__file__).with_name("hiccup.c")
TICK = 1 / os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.05
"""The share of a core for other processes above which a round counts as disturbed."""
QUIET_MS = 2.0
"""A stall of the machine, seen by the meters, above which a round counts as disturbed."""


@dataclass
class Round:
    """One round: seconds taken by other processes and by the host, and the meters' delays (s) on both cores."""

    others: float = 0.0
    stolen: float = 0.0
    delays: dict[int, list[float]] = field(default_factory=dict)
    real_time: bool = False

    @property
    def disturbed(self) -> bool:
        """Whether something other than the server and its client affected the round."""
        worst = max(max(delays) for delays in self.delays.values())
        return self.others > QUIET_SHARE or self.stolen > 0 or worst * 1e3 > QUIET_MS


@contextmanager
def watched(seconds: float, measured: tuple[int, ...]) -> Iterator[Round]:
    """Observe a round of ``seconds``. The ``measured`` processes, and children that end during it, are part of it."""
    found = Round()
    meters = {core: _begin(core, seconds) for core in (SERVER_CORE, CLIENT_CORE)}
    before, stolen, own = *_processors(), _own(measured)
    yield found
    after, stolen_after = _processors()
    found.stolen = stolen_after - stolen
    for core, meter in meters.items():
        values = array("d", meter.communicate()[0])
        found.real_time = bool(values[0])
        found.delays[core] = list(values[2::2])
    found.others = max(0.0, after - before - (_own(measured) - own))


def summary(rounds: list[Round]) -> dict[str, float]:
    """The figures of all rounds of a server."""
    delays = [delay * 1e3 for one in rounds for of_core in one.delays.values() for delay in of_core]
    return {
        "machine's own delay, p99 (ms)": quantile(delays, 0.99),
        "machine's own delay, longest (ms)": max(delays),
        "taken by the host (s)": sum(one.stolen for one in rounds),
        "taken by other processes (s)": sum(one.others for one in rounds),
        "disturbed rounds": sum(one.disturbed for one in rounds),
    }


def _begin(core: int, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(compiled(SOURCE)), str(core), str(seconds)], stdout=subprocess.PIPE)


def _processors() -> tuple[float, float]:
    """Busy seconds of the two cores, and seconds taken by the host."""
    worked = stolen = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in (f"cpu{SERVER_CORE}", f"cpu{CLIENT_CORE}"):
            user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, ticks[:8])
            worked += user + nice + system + interrupts + soft
            stolen += steal
    return worked * TICK, stolen * TICK


def _own(measured: tuple[int, ...]) -> float:
    """Processor seconds of the measured processes, this process, and its ended children."""
    servers = sum(sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) for pid in measured)
    return servers * TICK + sum(os.times()[:4])
