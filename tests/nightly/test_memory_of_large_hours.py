"""One hour of very many records fits in 2 GiB: each task of an observed hour, and an import.

Only `make nightly` runs this: it takes about ten minutes, and 10 GB of disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.large_hours import write_large_hour
from tests.benchmarks.observe_benchmark import HOUR, large_hour

from foreshard.stack.mongod import Mongod

BOUND_GIB = 2.0
OBSERVED, IMPORTED = 50_000_000, 20_000_000


def test_each_task_of_an_hour_of_fifty_million_records_fits_in_two_gib(tmp_path: Path) -> None:
    figures = {one["case"]: one for one in large_hour(tmp_path, OBSERVED)}
    peaks = {case: round(one["peak_gib"], 2) for case, one in figures.items()}
    print({case: f"{one['records'] / one['wall']:,.0f} records/s" for case, one in figures.items()}, peaks)
    assert [(case, one["records"]) for case, one in figures.items()] == [("extract", OBSERVED), ("count", OBSERVED)]
    assert max(peaks.values()) <= BOUND_GIB, peaks


def test_an_import_of_one_hour_of_twenty_million_records_fits_in_two_gib(
    mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path
) -> None:
    log = write_large_hour(tmp_path / "large.parquet", HOUR, IMPORTED)
    program = Path(__file__).with_name("imported_log.py")
    command = [sys.executable, str(program), str(log), mongods[0].uri, unique_name]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(found)
    assert found["accepted"] == IMPORTED
    assert found["peak_gib"] <= BOUND_GIB, found
