"""What an hour costs from its log to its tally: JSON lines and Parquet, checked, pseudonymised, saved, counted, with co-access.

Each case runs in a process of its own and reports CPU-seconds, wall time and peak memory. The bare cases read the same records
and only group them, with one tool, without checks, pseudonyms, raw hours and co-access. Goal of the design: 1,000,000 JSON
lines a second and 3,000,000 records of Parquet on two idle cores, in at most 3 × and 4 × the CPU time of bare Polars. It is not
reached; the table says by how much.

``--large`` measures the two tasks of one hour of 50 million records instead. The bound of the design is 2 GiB for each
(``tests/nightly``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.large_hours import write_large_hour

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
GOALS = {"jsonl": 1_000_000, "parquet": 3_000_000}
SMALL, LARGE = 250_000, 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "LOG"), help="run one case and print its figures (used internally)")
    parser.add_argument(
        "--large", type=int, nargs="?", const=50_000_000, metavar="RECORDS", help="measure one hour of so many records instead"
    )
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured({**CASES, **STEPS}[given.one[0]], Path(given.one[1]))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if given.large:
            figures = large_hour(Path(folder), given.large)
        else:
            figures = [run(case, log) for log in logs(Path(folder)) for case in CASES]
    show(figures)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=1))
    return 0


def logs(folder: Path, sizes: Sequence[int] = (SMALL, LARGE)) -> list[Path]:
    """Write logs: 50,000 keys of very different heat, 20 accesses a user, and 8 in each of its sessions of ten minutes."""
    made = []
    for records in sizes:
        random = np.random.default_rng(1)
        session = random.integers(0, records // 8, records)
        start = random.integers(0, 3_000 * 10**6, records // 8)
        times = start[session] + random.integers(0, 600 * 10**6, records)
        order = np.argsort(times, kind="stable")
        frame = pd.DataFrame(
            {
                "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(times[order], unit="us"),
                "partitionable_key": [f"key-{n}" for n in np.minimum(random.zipf(1.2, records), 50_000)],
                "user_id": [f"user-{n}" for n in session[order] % (records // 20)],
                "request_type": random.choice(["read", "write"], records),
                "location": random.choice(["a", "b", "c"], records),
                "session_id": [f"session-{n}" for n in session[order]],
            }
        )
        frame.to_parquet(folder / f"{records}.parquet", row_group_size=200_000)
        texts = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00"))
        texts.to_json(folder / f"{records}.jsonl", orient="records", lines=True)
        made += [folder / f"{records}.jsonl", folder / f"{records}.parquet"]
    return made


def large_hour(folder: Path, records: int) -> list[dict[str, Any]]:
    """Measure the tasks of an hour of ``records``, which are written in pieces. It needs about 150 bytes of disk a record."""
    log = write_large_hour(folder / "large.parquet", HOUR, records)
    return [run(step, log) for step in STEPS]


def foreshard_hour(log: Path) -> int:
    """Read, check, pseudonymise and save the hour, and count it. Return the number of records."""
    with tempfile.TemporaryDirectory() as folder:
        extracted(log, Path(folder))
        return counted(Path(folder))


def extracted(log: Path, folder: Path) -> int:
    """Read, check and pseudonymise the hour, and save it under ``folder``. Return the number of records."""
    from foreshard.model.key_space import KeyType
    from foreshard.observe.reading import HourRules, RecordCleaner
    from foreshard.stores.files.access_log import FileAccessLog
    from foreshard.stores.files.raw_hours import ParquetHourStore

    rules = HourRules(HOUR, ("read", "write"), KeyType.STRING)
    cleaner = RecordCleaner(rules, lambda: b"a secret key of a benchmark, 32 b")
    with ParquetHourStore(folder).writer(HOUR) as writer:
        for batch in FileAccessLog([log]).read_hour(HOUR):
            cleaned = cleaner.clean(batch)
            writer.add(cleaned.accepted, cleaned.quarantined)
        return writer.keep().records


def counted(folder: Path) -> int:
    """Count the hour that was saved under ``folder``, with co-access. Return the number of records."""
    from foreshard.observe.pairs.co_access import CoAccessRules
    from foreshard.observe.units import UnitRule
    from foreshard.stages.observe import COUNTED, UNNAMED, TallyRules, count_hours, facts_of_hour
    from foreshard.stages.units import UnitChoice
    from foreshard.stores.engines.polars_engine import PolarsEngine
    from foreshard.stores.files.raw_hours import ParquetHourStore

    store = ParquetHourStore(folder)
    every_key = UnitChoice(UnitRule(0.0, sys.maxsize), sys.maxsize, False, frozenset(), frozenset())
    rules = TallyRules({"read": 1.0, "write": 2.0}, CoAccessRules(timedelta(minutes=5)), every_key)
    facts_of_hour(store, HOUR, rules.weights, "")
    with PolarsEngine(folder) as engine:
        records = engine.coded_files(store.describe(HOUR).files, COUNTED, UNNAMED)
        (found,) = count_hours(engine, rules, [HOUR], records)
    return int(found.key_load["count"].sum())


def pandas_tally(log: Path) -> int:
    """Group the records by key, location and type, and count users, with pandas alone."""
    frame = pd.read_parquet(log) if log.suffix == ".parquet" else pd.read_json(log, lines=True)
    load = frame.groupby(["partitionable_key", "location", "request_type"])["user_id"].agg(["size", "nunique"])
    return int(load["size"].sum())


def polars_tally(log: Path) -> int:
    """Do the same with Polars alone."""
    import polars as pl

    schema = dict.fromkeys(("partitionable_key", "user_id", "request_type", "location"), pl.String)
    frame = pl.scan_parquet(log) if log.suffix == ".parquet" else pl.scan_ndjson(log, schema=schema)
    cells = frame.group_by("partitionable_key", "location", "request_type").agg(pl.len(), pl.col("user_id").n_unique())
    return int(cells.collect(engine="streaming")["len"].sum())


def duckdb_tally(log: Path) -> int:
    """Do the same with DuckDB alone."""
    import duckdb

    made = duckdb.sql(
        f"select count(*) as records, count(distinct user_id) from '{log}' group by partitionable_key, location, request_type"  # noqa: S608
    )
    return int(made.aggregate("sum(records)").fetchall()[0][0])


CASES: dict[str, Callable[[Path], int]] = {
    "foreshard": foreshard_hour,
    "bare Polars": polars_tally,
    "bare DuckDB": duckdb_tally,
    "bare pandas": pandas_tally,
}
STEPS: dict[str, Callable[[Path], int]] = {
    "extract": lambda log: extracted(log, log.parent / "data"),
    "count": lambda log: counted(log.parent / "data"),
}
"""The tasks of one hour, each in a process of its own, as Airflow runs them. The second needs what the first has saved."""


def measured(case: Callable[[Path], int], log: Path) -> dict[str, Any]:
    started, used = time.perf_counter(), time.process_time()
    records = case(log)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 2**20  # getrusage would count the parent's memory too
    return {"records": records, "wall": time.perf_counter() - started, "cpu": time.process_time() - used, "peak_gib": peak}


def run(case: str, log: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--one", case, str(log)], capture_output=True, text=True, check=True)
    return {"case": case, "format": log.suffix[1:], **json.loads(done.stdout.splitlines()[-1])}


def show(figures: list[dict[str, Any]]) -> None:
    table = Table(title="one hour, from its log to its tally")
    for name in (
        "format",
        "case",
        "records",
        "CPU-s",
        "wall s",
        "records per CPU-s",
        "of the goal",
        "× bare Polars",
        "peak GiB",
    ):
        table.add_column(name, justify="right")
    polars = {(one["format"], one["records"]): one["cpu"] for one in figures if one["case"] == "bare Polars"}
    for one in figures:
        rate, bare = one["records"] / one["cpu"], polars.get((one["format"], one["records"]))
        goal = f"{one['records'] / one['wall'] / GOALS[one['format']]:.0%}" if one["case"] == "foreshard" else ""
        cells = (
            f"{one['records']:,}",
            f"{one['cpu']:.2f}",
            f"{one['wall']:.2f}",
            f"{rate:,.0f}",
            goal,
            f"{one['cpu'] / bare:.1f}" if bare else "",
            f"{one['peak_gib']:.2f}",
        )
        table.add_row(one["format"], one["case"], *cells)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
