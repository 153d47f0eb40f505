"""Manual: replay a log under several policies, with other thresholds, horizon or capacity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, dag

import foreshard_airflow as loop
from foreshard_replay import WhatIfReplay

DOC = """
### Replay a log with other settings

Replays an access log, hour by hour, under several placement policies. A policy sees only the hours before, and moves take time
and cause load. Live data is not touched. The task's button **Replay page** opens the result: utilisation by partition and hour,
moves, and a table. The Foreshard page links it as well, and `data_dir/replays` has the figures as JSON.

* **Log**: a file (Parquet, CSV or JSON Lines) with the standard columns, readable by the worker.
* **Capacity**: `partitions` of equal size, so that the median day's peak uses the share `utilisation` of all capacity; or a
  `layout`: a JSON file, or `current` for the registered partitions with their capacities.
* An empty param keeps the setting. Running the task again replaces its page.
"""

POLICIES = ["static_hash", "static_geo", "reactive", "mongodb_balance", "predictive", "oracle"]


def number(default: float | None, low: float, high: float, title: str, text: str, kind: str = "number") -> Param:
    """Return a param for a bounded number. None keeps the setting."""
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
        "high_water": number(None, 0.01, 5, "High-water mark", "A partition whose LPS is above it is relieved."),
        "reserve": number(None, 0, 0.99, "Reserve", "Share of each partition's capacity that a burst may need."),
        "nearness": number(None, 0, 100, "Nearness", "Weight of serving keys near their users and companions."),
        "churn": number(None, 0, 100, "Churn", "Weight of moving: above 1 plans move less, below 1 more."),
        "horizon_hours": number(None, 1, 168, "Horizon", "Hours that are forecast.", "integer"),
        "partitions": number(4, 1, 1000, "Partitions", "Number of equal partitions, without a layout.", "integer"),
        "utilisation": number(0.7, 0.01, 5, "Utilisation", "Share of all capacity that the median day's peak hour uses."),
        "layout": Param(
            None,
            type=["null", "string"],
            maxLength=1000,
            title="Layout",
            description="A JSON file, or `current`. Empty: equal partitions.",
        ),
        "days": number(28, 1, 366, "Days", "Days to replay, at the end of the log.", "integer"),
        "policies": Param(
            POLICIES,
            type="array",
            items={"type": "string", "enum": POLICIES},
            minItems=1,
            uniqueItems=True,
            title="Policies",
            description="Policies to compare.",
        ),
    },
    tags=["foreshard", "plan", "manual"],
    doc_md=DOC,
)
def what_if_replay() -> None:
    WhatIfReplay(task_id="replay", execution_timeout=timedelta(hours=3))


what_if_replay()
