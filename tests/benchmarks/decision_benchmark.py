"""The routing decision in a simulated world of 60 sidecars with late load reports, compared with three plain policies.

There are two load spikes: one that leaves room elsewhere, and one that leaves hardly any. ``best`` is the lowest possible
utilisation of the worst partition (a linear programme over all splits). Goal: at most 1.15 times that, stable, without
oscillation. The goal applies in full if the best split itself exceeds the room mark (80%), as in the second spike. Below the
mark, the decision deliberately keeps reads near instead of spreading them, so the mark is the yardstick there. Both ratios are
shown.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from decision_world import LOADS, POLICIES, World, simulate
from rich.console import Console
from rich.table import Table

GOAL = 1.15
SPIKES = {"room elsewhere": World(0.45, 3.0), "hardly any room": World(0.55, 4.0)}
SECONDS, SETTLED = 300, 120


def measure(world: World, policy: str) -> dict[str, float | None]:
    """The figures of one policy in one world."""
    begun = time.perf_counter()
    outcome = simulate(world, POLICIES[policy], SECONDS)
    yardstick = max(world.best_split(), LOADS.room_mark)
    late = world.spike_at + SETTLED
    return {
        "worst": outcome.worst(late),
        "ratio": outcome.worst(late) / yardstick,
        "ratio_to_best_split": outcome.worst(late) / world.best_split(),
        "swing": outcome.swing(late),
        "worst_after_spike": outcome.worst(world.spike_at),
        "settled_after_seconds": outcome.settled_after(world.spike_at, GOAL * yardstick),
        "round_trip_ms": float(outcome.milliseconds[int(late) :].mean()),
        "seconds_to_simulate": time.perf_counter() - begun,
    }


def main() -> None:
    """Run, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("var/bench/decision.json"))
    options = parser.parse_args()
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()}
    results: dict[str, Any] = {"made_at": datetime.now(UTC).isoformat(), "machine": machine, "goal_ratio": GOAL}
    for name, world in SPIKES.items():
        best = world.best_split()
        title = f"{name}: {world.sidecars} sidecars, reports up to {world.slowest_report:.0f} s late; best split {best:.1%}"
        table = Table("policy", title=title)
        ratios = ("÷ best split", "÷ max(best, mark)")
        for column in ("worst partition", *ratios, "swing", "settled after", "worst since the spike", "round trip"):
            table.add_column(column, justify="right")
        results[name] = {"best_split": best}
        for policy in POLICIES:
            found = results[name][policy] = measure(world, policy)
            settled = found["settled_after_seconds"]
            table.add_row(
                policy,
                f"{found['worst']:.1%}",
                f"{found['ratio_to_best_split']:.3f}",
                f"{found['ratio']:.3f}",
                f"{found['swing']:.1%}",
                "never" if settled is None else f"{settled:.0f} s",
                f"{found['worst_after_spike']:.1%}",
                f"{found['round_trip_ms']:.0f} ms",
            )
        Console(width=120).print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
