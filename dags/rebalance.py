"""After the partitions are scored: plan, move and shadow keys, and publish the routing table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import PartitionedAssetTimetable, chain, dag, task

import foreshard_airflow as loop
from foreshard_approval import PlanApproval

DOC = """
### Scores → plan → moves and shadows → published routing table

For the hour of the asset `partition_scores`: **plan** moves of co-accessed keys and shadows of hot keys, and **gate** the plan.
Unless this is a dry run or an old hour: **migrate** each move until it has switched, make each **shadow**, **publish** the
ready shadows as one version, check the table, **clean** the sources that are due, and **verify** documents. A source's copy
is kept for `FORESHARD_MIGRATE__SOURCE_KEPT` (15 min); the applier, the load reporter and `shadow_upkeep` remove it afterwards.

* A failed gate is not retried, and nothing acts. The published table keeps serving. An empty plan skips `migrate` and `shadow`.
* **Dry run**: set `dry_run` here, or on `access_log_hourly` for the whole loop. The Foreshard page shows the plan.
* **Old hours** (backfills) are planned as dry runs, unless `act_on_old_hours` is set.
* **Approval**: with `require_approval` (default: `FORESHARD_REQUIRE_APPROVAL`), the run waits under *Required Actions*.
* Moves are journalled: a killed task resumes where it stopped, and `shadow_upkeep` resumes moves that have no mover.
"""


@dag(
    schedule=PartitionedAssetTimetable(assets=loop.PARTITION_SCORES),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    default_args=loop.DEFAULT_ARGS,
    params=loop.acting_params(),
    tags=["foreshard", "plan", "actuate"],
    doc_md=DOC,
)
def rebalance() -> None:
    @task
    def plan() -> loop.Summary:
        old = loop.option("act_on_old_hours")
        return loop.for_hour("plan.plan_hour", dry_run=not loop.may_act(), act_on_old_hours=old)

    @task
    def gate() -> loop.Summary:
        return loop.for_hour("plan.gate_plan")

    @task.short_circuit
    def act(planned: loop.Summary) -> bool:
        """Continue only if this run may change live data."""
        return loop.may_act() and not planned["dry_run"]

    @task
    def start_moves() -> loop.Summary:
        return loop.for_hour("migrate.start_moves")

    @task(map_index_template="{{ move_id }}")
    def migrate(move_id: str) -> loop.Summary:
        return loop.run("migrate.run_move", move_id)

    @task(trigger_rule="none_failed")
    def start_shadows() -> loop.Summary:
        return loop.for_hour("shadow.start_shadows")

    @task(map_index_template="{{ shadow_id }}")
    def shadow(shadow_id: str) -> loop.Summary:
        return loop.run("shadow.run_shadow", shadow_id)

    @task(trigger_rule="none_failed")
    def publish() -> loop.Summary:
        return loop.for_hour("publish.publish_hour")

    @task
    def gate_table() -> loop.Summary:
        return loop.for_hour("publish.gate_table")

    @task
    def clean() -> loop.Summary:
        return loop.run("migrate.tend_moves")

    @task(outlets=[loop.ROUTING_TABLE])
    def verify() -> loop.Summary:
        loop.for_hour("score.refresh_predicted_load")
        summary = loop.for_hour("publish.verify_hour")
        loop.announce(loop.ROUTING_TABLE)
        return summary

    planned, move_ids, shadow_ids = plan(), start_moves(), start_shadows()
    chain(planned, gate(), act(planned), PlanApproval(task_id="approve"), move_ids)
    chain(migrate.expand(move_id=move_ids), shadow_ids)
    chain(shadow.expand(shadow_id=shadow_ids), publish(), gate_table(), clean(), verify())


rebalance()
