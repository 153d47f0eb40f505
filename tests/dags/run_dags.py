"""Run DAGs with ``dag.test()`` and print the final state of each task. Runs in a separate process.

The argument is a JSON list of ``{dag, conf, environment}``; the answer, on the last line, one object per run.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from typing import Any


def main(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from airflow.utils.db import initdb

    initdb()
    return [run(parse(step["dag"]), step) for step in steps]


def parse(dag_id: str) -> Any:
    """Parse the DAG again, because Airflow writes a run's params into the object."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"], bundle_name="dags-folder")
    assert bag.import_errors == {}
    for task in bag.dags[dag_id].tasks:
        if not task.is_mapped:
            task.retry_delay = timedelta(seconds=1)
    return bag.dags[dag_id]


def run(dag: Any, step: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(step.get("environment", {}))
    ran = dag.test(logical_date=None, run_conf=step["conf"])
    for name in step.get("environment", {}):
        del os.environ[name]
    return {"dag": dag.dag_id, "run_id": ran.run_id, "state": str(ran.state), "tasks": tasks(ran), "assets": events(ran)}


def tasks(ran: Any) -> list[dict[str, Any]]:
    return [
        {"task": ti.task_id, "map_index": ti.map_index, "state": str(ti.state), "tries": ti.try_number}
        for ti in ran.get_task_instances()
    ]


def events(ran: Any) -> list[dict[str, Any]]:
    """Return the asset events of the run: name, partition and extra values."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == ran.run_id)).all()
        return [{"asset": event.asset.name, "partition": event.partition_key, "extra": event.extra} for event in found]


if __name__ == "__main__":
    answers = main(json.loads(sys.argv[1]))
    sys.stdout.write("\n" + json.dumps(answers) + "\n")
