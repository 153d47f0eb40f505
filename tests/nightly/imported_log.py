"""Imports a log in a process of its own, and prints its records and its peak memory as JSON.

``python imported_log.py LOG CONTROL_URI DATABASE``: the raw hours are written beside the log.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.observe_benchmark import measured

from foreshard.settings import Settings
from foreshard.stages.log_import import import_history
from foreshard.wiring import Wiring

TYPES = {"read": {"kind": "read", "weight": 1.0}, "write": {"kind": "write", "weight": 2.0}}


def main(log: str, uri: str, database: str) -> None:
    settings = Settings.load(
        control_uri=uri,
        control_database=database,
        data_dir=Path(log).parent / "data",
        user_key="a secret of the tests of 32 bytes",
        observe={"request_types": TYPES},
    )
    with Wiring(settings) as wiring:
        figures = measured(lambda path: import_history(wiring, path).accepted, Path(log))
        wiring.control.drop_database(database)
    print(json.dumps({"accepted": figures["records"], "wall": figures["wall"], "peak_gib": figures["peak_gib"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
