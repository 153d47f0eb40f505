"""Parse the DAG files like Airflow and print the result as JSON. Runs in a separate process."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

HEAVY = ("pandas", "numpy", "prophet", "great_expectations", "pymongo", "confluent_kafka", "foreshard", "fastapi", "scipy")


def main(folder: str) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bag = DagBag(folder, bundle_name="dags-folder")
    ours = [str(w.message) for w in caught if "/dags/" in w.filename or "/plugins/foreshard" in w.filename]
    return {
        "errors": bag.import_errors,
        "warnings": ours,
        "heavy": sorted(name for name in HEAVY if name in sys.modules),
        "dags": {dag.dag_id: describe(dag) for dag in bag.dags.values()},
    }


def describe(dag: Any) -> dict[str, Any]:
    return {
        "file": dag.fileloc,
        "doc": dag.doc_md or "",
        "owner": dag.owner,
        "tags": sorted(dag.tags),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "timeout": dag.dagrun_timeout.total_seconds() if dag.dagrun_timeout else None,
        "params": sorted(dag.params),
        "assets": [asset.name for task in dag.tasks for asset in task.outlets],
        "timetable": type(dag.timetable).__name__,
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
    }


def describe_task(task: Any) -> dict[str, Any]:
    return {
        "retries": task.retries,
        "backoff": task.retry_exponential_backoff,
        "execution_timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
        "downstream": sorted(task.downstream_task_ids),
        "trigger_rule": getattr(task.trigger_rule, "value", task.trigger_rule),
        "mapped": task.is_mapped,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
