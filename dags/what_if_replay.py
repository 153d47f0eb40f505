"""By hand: replay a log under several policies, with other thresholds, horizon or capacity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag

import foreshard_airflow as loop
from foreshard_replay import WhatIfReplay

DOC = """
### What would other thresholds have done?

Replays an access log, hour by hour, under several placement policies: each sees only what had happened before the hour, and
moves take time and cost load. Nothing live is touched. The task's button **Replay page** opens the result (utilisation by
partition and hour, moves, a table); the Foreshard page links it too, and the figures stand as JSON in `data_dir/replays`.

* **Log**: a file (Parquet, CSV, JSON Lines) with the standard columns, readable by the worker.
* **Capacity**: `partitions` equal ones, sized so that the median daily peak fills `utilisation` of them; or a `layout`: a JSON
  file, or `current` for the registered partitions with their capacities.
* Empty params leave the settings as they are. Running the task again replaces its page.
"""

POLICIES = ["static_hash", "static_geo", "reactive", "mongodb_balance", "predictive", "oracle"]


def number(default: float | None, low: float, high: float, title: str, text: str, kind: str = "number") -> Param:
    """A bounded number; None: the setting."""
    types: Any = kind if default is not None else ["null", kind]
    return Param(default, type=types, minimum=low, maximum=high, title=title, description=text)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=4),
    default_args=loop.DEFAULT_ARGS,
    params={
        "log": Param(type="string", minLength=1, maxLength=1000, title="Log", description="Path of the log file."),
        "high_water": number(None, 0.01, 5, "High-water mark", "A partition whose LPS passes it is relieved."),
        "low_water": number(None, 0.01, 5, "Low-water mark", "It is relieved to below this."),
        "reserve": number(None, 0, 0.99, "Reserve", "Share of capacity kept for bursts, free or as reads that can make way."),
        "horizon_hours": number(None, 1, 168, "Horizon", "Hours that are forecast and planned for.", "integer"),
        "partitions": number(4, 1, 1000, "Partitions", "Equal ones, where there is no layout.", "integer"),
        "utilisation": number(0.7, 0.01, 5, "Utilisation", "Of all capacity together in the median daily peak hour."),
        "layout": Param(
            None, type=["null", "string"], maxLength=1000, title="Layout", description="A JSON file, or: current. Empty: equal."
        ),
        "days": number(28, 1, 366, "Days", "The log's last days are replayed.", "integer"),
        "policies": Param(
            POLICIES,
            type="array",
            items={"type": "string", "enum": POLICIES},
            minItems=1,
            uniqueItems=True,
            title="Policies",
            description="What is compared.",
        ),
    },
    tags=["foreshard", "plan", "manual"],
    doc_md=DOC,
)
def what_if_replay() -> None:
    WhatIfReplay(task_id="replay", execution_timeout=timedelta(hours=3))


what_if_replay()
