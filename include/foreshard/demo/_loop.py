"""Follows one hour through the three DAGs in Airflow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from foreshard.errors import ForeshardError
from foreshard.stack.airflow_api import AirflowApi, RunState

LOOP = ("access_log_hourly", "load_forecast", "rebalance")
UPKEEP = "shadow_upkeep"
FINISHED = ("success", "failed")
SCHEDULER_PATIENCE = 15.0
"""Seconds that the scheduler has to start the last closed hour's run by itself."""


class LoopFailed(ForeshardError):
    """A DAG run of the loop failed or did not start."""

    def __init__(self, dag_id: str, hour: datetime | None, what: str) -> None:
        when = f" for {hour:%Y-%m-%dT%H:00Z}" if hour else ""
        super().__init__(f"DAG {dag_id}{when}: {what}; the log of Airflow says why")
        self.dag_id, self.hour, self.what = dag_id, hour, what


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """Seconds from the hour's closing (the first DAG's trigger) to the published table, and to the end of the last DAG."""

    to_published: float
    to_verified: float
    per_dag: dict[str, float]


def wait_for_dags(api: AirflowApi, note: Callable[[str], None], patience: float = 120) -> None:
    """Wait until the loop's DAGs are parsed. Raise :class:`LoopFailed` with an import error."""
    deadline = time.monotonic() + patience
    while missing := [dag for dag in (*LOOP, UPKEEP) if dag not in api.dag_ids()]:
        note(f"parsing {', '.join(missing)}")
        if time.monotonic() > deadline:
            errors = "; ".join(api.import_errors()) or "not parsed in time"
            raise LoopFailed(missing[0], None, errors)
        time.sleep(0.5)


def run_loop(api: AirflowApi, hour: datetime, note: Callable[[str], None], patience: float = 600) -> LoopTimes:
    """Start the first DAG for ``hour`` and follow the asset-triggered runs to the end of the last one. Raise if one fails."""
    begun = time.monotonic()
    for dag in (UPKEEP, *LOOP):
        api.set_paused(dag, paused=dag == UPKEEP)
    if not _scheduled(api, hour, note):
        api.trigger(LOOP[0], hour)
    runs = {dag: _follow(api, dag, hour, note, begun + patience) for dag in LOOP}
    published = next(t.ended for t in api.tasks("rebalance", runs["rebalance"].run_id) if t.task_id == "publish")
    first, last = runs[LOOP[0]].started, runs["rebalance"].ended
    if first is None or last is None or published is None:
        raise LoopFailed("rebalance", hour, "ended without times")
    return LoopTimes(
        (published - first).total_seconds(),
        (last - first).total_seconds(),
        {dag: (run.ended - run.started).total_seconds() for dag, run in runs.items() if run.ended and run.started},
    )


def _scheduled(api: AirflowApi, hour: datetime, note: Callable[[str], None]) -> bool:
    """Return whether Airflow itself starts the run for ``hour``, as it does for the last closed hour of an unpaused DAG."""
    deadline = time.monotonic() + SCHEDULER_PATIENCE
    while time.monotonic() < deadline:
        note(f"{LOOP[0]}: waiting for the scheduler")
        if api.run_for(LOOP[0], hour) is not None:
            return True
        time.sleep(0.5)
    return False


def _follow(api: AirflowApi, dag: str, hour: datetime, note: Callable[[str], None], deadline: float) -> RunState:
    while True:
        run = api.run_for(dag, hour)
        if run is not None and run.state in FINISHED:
            break
        note(f"{dag}: {_describe(api, run)}")
        if time.monotonic() > deadline:
            raise LoopFailed(dag, hour, "did not end in time")
        time.sleep(0.5)
    if run.state == "failed":
        tasks = [t for t in api.tasks(dag, run.run_id) if t.state == "failed"]
        raise LoopFailed(dag, hour, f"failed in {', '.join(sorted({t.task_id for t in tasks})) or 'no task'}")
    return run


def _describe(api: AirflowApi, run: RunState | None) -> str:
    if run is None:
        return "waiting for its asset"
    tasks = api.tasks(run.dag_id, run.run_id)
    states = Counter(t.state or "waiting" for t in tasks)
    now = ", ".join(sorted({t.task_id for t in tasks if t.state == "running"}))
    return f"{states['success']} of {len(tasks)} tasks done" + (f", running {now}" if now else "")
