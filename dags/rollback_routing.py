"""Manual: undo the moves of an hour's plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, chain, dag, task

import foreshard_airflow as loop

DOC = """
### Undo an hour's moves

Set `hour` to the start of the hour that the plan was made for, such as `2026-03-01T08:00:00`.

* Moves that have not switched are reverted. Keys that are still where the plan put them are moved back. A move back is copied,
  fenced, verified and switched like any other: no write is lost, and apps keep running.
* Keys that have been moved again since are left alone. Shadows stay; remove them with `foreshard shadows remove`.
* **Dry run** lists the moves and changes nothing.
* `rebalance` may plan the same moves for a later hour. Pause it first, or raise `plan.high_water`.
"""


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    default_args=loop.DEFAULT_ARGS,
    params={
        "hour": Param(type="string", minLength=13, title="Hour", description="Start of the hour whose moves are undone."),
        "dry_run": Param(False, type="boolean", title="Dry run", description="List the moves, and change nothing."),
    },
    tags=["foreshard", "actuate", "manual"],
    doc_md=DOC,
)
def rollback_routing() -> None:
    @task
    def find() -> loop.Summary:
        """Return the hour's moves that still have an effect."""
        return loop.for_hour("manual_moves.moves_to_undo")

    @task.short_circuit
    def act() -> bool:
        return not loop.option("dry_run")

    @task(map_index_template="{{ move_id }}", max_active_tis_per_dagrun=2)
    def undo(move_id: str) -> loop.Summary:
        return loop.run("manual_moves.take_back", move_id)

    @task(trigger_rule="none_failed")
    def gate_table() -> loop.Summary:
        return loop.for_hour("publish.gate_table")

    @task
    def clean() -> loop.Summary:
        return loop.run("migrate.tend_moves")

    @task
    def verify() -> loop.Summary:
        return loop.for_hour("publish.verify_hour")

    move_ids = find()
    chain(move_ids, act(), undo.expand(move_id=move_ids), gate_table(), clean(), verify())


rollback_routing()
