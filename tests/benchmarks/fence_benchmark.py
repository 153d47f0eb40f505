"""What a move costs the apps after a million keys have changed places: the cutover's pause, refusals, and the rate of inserts.

Two partitions share 2,000,000 keys by 4,096 slots. ``nothing moved``: all slots are on alpha. ``a million moved``: every other
slot is on beta; in a third case 10,000 keys are listed besides, half of them on alpha. In each, keys and slots then move from
alpha to beta by the whole mover. ``by keys``: a fence that lists 50,000 keys, as earlier versions wrote it. Goals: the same
pause, and answers to refused writes of at most 2 KB.

Inserts go to alpha in rounds, one fence after the other, so that the ratios are of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import bson
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import WriteError
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from foreshard.model import Location, Partition, Placement, RoutingTable, SlotMap
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.settings import CollectionSetting, Settings
from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod
from foreshard.stages import manual_moves, migrate
from foreshard.wiring import Wiring

GOAL_BYTES = 2_048
SPACE = KeySpace()
LISTED, BY_KEYS = 10_000, 50_000
ROUNDS, INSERTS = 7, 1_500
MOVED_DOCUMENTS = 200
NOTHING, MILLION, BY_KEY = "nothing moved", "a million moved", "by keys (earlier version)"
LISTED_TOO = "a million moved, 10,000 listed"


def keys_in(slots: set[int], name: str) -> Iterator[str]:
    """Keys of these slots."""
    return (key for key in (f"{name} {number}" for number in count()) if SPACE.slot_of(key) in slots)


class Case:
    """A routing table and its two partitions' databases."""

    def __init__(self, name: str, mongods: dict[str, Mongod], away: set[int], listed: int, stack: ExitStack) -> None:
        self.name, self.database = name, f"bench_{name.replace(' ', '_').replace(',', '')}"
        self.away, self.home = away, set(range(SPACE.slots)) - away
        collection = CollectionSetting(database=self.database, collection="things", key_field="key")
        uri = SecretStr(mongods["control"].uri)
        settings = Settings(control_uri=uri, control_database=self.database, collections=(collection,))
        self.wiring = stack.enter_context(Wiring(settings))
        partitions = [Partition(n, "here", 100.0, mongods[n].uri) for n in ("alpha", "beta")]
        self.wiring.registry.register(partitions, [Location("here", 37.8, -122.4)])
        self.things: Any = MongoClient(mongods["alpha"].uri, w=1)[self.database]["things"]
        self.things.create_index([("key", "hashed")])
        self.here = list(islice(keys_in(away, "here"), listed // 2))
        self.elsewhere = list(islice(keys_in(self.home, "elsewhere"), listed // 2))
        self.wiring.routing.initialise(self._table())

    def _table(self) -> RoutingTable:
        units = enumerate(map(slot_unit, range(SPACE.slots)))
        slots = SlotMap(SPACE, tuple(Placement(unit, "beta" if slot in self.away else "alpha") for slot, unit in units))
        rows = {key: Placement(key, name) for keys, name in ((self.here, "alpha"), (self.elsewhere, "beta")) for key in keys}
        return RoutingTable(1, rows, slots, datetime.now(UTC))

    def pauses(self, moves: int, by_slot: bool) -> list[float]:
        """The pause of each of some moves to beta, in ms."""
        found = []
        for key in islice(keys_in(self.home, f"moved by {'slot' if by_slot else 'key'}"), moves):
            self.things.insert_many([{"key": key, "pad": "x" * 1000} for _ in range(MOVED_DOCUMENTS)])
            unit = slot_unit(SPACE.slot_of(key)) if by_slot else key
            summary = manual_moves.move_units(self.wiring, [unit], "beta")
            assert summary.state == "switched", summary
            found.append(summary.pause_ms or 0.0)
            migrate.clean_moves(self.wiring, wait=False)
            self.home -= {SPACE.slot_of(key)} if by_slot else set()
        return found

    def refused(self, key: str) -> int:
        """The size of the answer to a refused insert, in bytes."""
        try:
            self.things.insert_one({"key": key})
        except WriteError as error:
            return len(bson.encode(error.details or {}))
        raise AssertionError(f"{key} was accepted")

    def milliseconds_of_collmod(self) -> float:
        """How long the server needs to write the fence again."""
        [fence] = self.wiring.fences("alpha")
        return timed(fence.repair)

    def rate(self, key: str) -> float:
        """Inserts of one document each, in documents/s."""
        begun = time.perf_counter()
        for _ in range(INSERTS):
            self.things.insert_one({"key": key, "pad": "x" * 1000})
        return INSERTS / (time.perf_counter() - begun)


def timed(work: Any, times: int = 9) -> float:
    """The median duration in ms."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


def earlier_version(alpha: MongoClient[Any]) -> dict[str, Any]:
    """Figures of a fence that lists the keys that have moved."""
    database = alpha["bench_by_keys"]
    keys = [f"station {number:>8} of a city" for number in range(BY_KEYS)]
    database.create_collection("things")
    validator = {"$and": [{"key": {"$nin": keys}}, {"$comment": {"foreshard": {"revision": 1}}}]}
    command = {"collMod": "things", "validator": validator, "writeConcern": {"w": "majority"}}
    taken = timed(lambda: database.command(command), 3)
    try:
        database["things"].insert_one({"key": keys[0]})
    except WriteError as error:
        return {"collmod_ms": round(taken, 1), "refused_bytes": len(bson.encode(error.details or {}))}
    raise AssertionError


@contextmanager
def running(folder: Path) -> Iterator[dict[str, Mongod]]:
    """Three replica sets of one node."""
    mongods = {name: Mongod(name, free_port(), folder / name) for name in ("control", "alpha", "beta")}
    try:
        for mongod in mongods.values():
            mongod.start()
        yield mongods
    finally:
        for mongod in mongods.values():
            mongod.stop()


def measure(moves: int) -> dict[str, dict[str, Any]]:
    """Return case → figure → value."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        mongods = stack.enter_context(running(Path(folder)))
        bare: Any = MongoClient(mongods["alpha"].uri, w=1)["bench_bare"]["things"]
        bare.create_index([("key", "hashed")])
        odd = set(range(1, SPACE.slots, 2))
        cases = [
            Case(NOTHING, mongods, set(), 0, stack),
            Case(MILLION, mongods, odd, 0, stack),
            Case(LISTED_TOO, mongods, odd, LISTED, stack),
        ]
        figures: dict[str, dict[str, Any]] = {BY_KEY: earlier_version(MongoClient(mongods["alpha"].uri))}
        for case in cases:
            by_key, by_slot = case.pauses(moves, by_slot=False), case.pauses(moves, by_slot=True)
            moved = next(keys_in(case.away or set(range(SPACE.slots)) - case.home, "fenced"))
            figures[case.name] = {
                "pause_ms_key": round(median(by_key), 1),
                "pause_ms_slot": round(median(by_slot), 1),
                "collmod_ms": round(case.milliseconds_of_collmod(), 1),
                "refused_bytes": case.refused(moved),
                "refused_bytes_listed": case.refused(case.elsewhere[7] if case.elsewhere else "moved by key 0"),
            }
        figures |= rates(bare, cases, figures)
    return figures


def rates(bare: Any, cases: list[Case], figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add each case's inserts/s as a ratio to inserts without a fence, from rounds that alternate."""
    plain, free, here = [], {case.name: [] for case in cases}, {case.name: [] for case in cases}  # type: ignore[var-annotated]
    reference = Case.rate
    for _ in range(ROUNDS):
        plain.append(reference(_Bare(bare), "free"))  # type: ignore[arg-type]
        for case in cases:
            free[case.name].append(case.rate(next(keys_in(case.home, "free"))))
            if case.here:
                here[case.name].append(case.rate(case.here[len(case.here) // 2]))
    ratio = {name: round(median(a / b for a, b in zip(some, plain, strict=True)), 3) for name, some in free.items()}
    named = {name: round(median(a / b for a, b in zip(some, plain, strict=True)), 3) for name, some in here.items() if some}
    return {c.name: {**figures[c.name], "insert_ratio": ratio[c.name], "insert_ratio_here": named.get(c.name)} for c in cases}


class _Bare:
    """A collection without a fence."""

    def __init__(self, things: Any) -> None:
        self.things = things


def main() -> None:
    """Measure, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=9)
    parser.add_argument("--json", type=Path, default=Path("var/bench/fence.json"))
    options = parser.parse_args()
    figures = measure(options.moves)
    names = list(dict.fromkeys(name for some in figures.values() for name in some))
    table = Table(title="A fence after moves (goals: the same pause, refusals of at most 2 KB, inserts as without a fence)")
    for column in ("figure", *figures):
        table.add_column(column, justify="right")
    for name in names:
        table.add_row(
            name.replace("_", " "), *(f"{some.get(name) if some.get(name) is not None else '':>}" for some in figures.values())
        )
    ratio = {
        f"{case}, {name}": round(figures[case][name] / figures[NOTHING][name], 2)
        for case in (MILLION, LISTED_TOO)
        for name in ("pause_ms_key", "pause_ms_slot")
    }
    Console(width=140).print(table)
    for what, value in ratio.items():
        print(f"{what} ÷ with nothing moved: {value}")
    results = {
        "made_at": datetime.now(UTC).isoformat(),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()},
        "goal_bytes": GOAL_BYTES,
        "figures": figures,
        "pause_ratio": ratio,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
