"""When the partitions are scored: plan, check, move and copy keys, publish the routing table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import PartitionedAssetTimetable, chain, dag, task

import foreshard_airflow as loop
from foreshard_approval import PlanApproval

DOC = """
### Scores → plan → moves and shadows → published routing table

For the hour of the asset `partition_scores`: **plan** moves of co-accessed keys and shadows of hot ones; **gate** the plan;
unless this is a dry run or an old hour, **migrate** each move up to its switch, copy each **shadow**, **publish** the ready
ones in one version, check the table, **clean** the sources once the sidecars follow it, **verify** from the data itself.

* A failed gate fails at once and nothing acts: the published table keeps serving. An empty plan skips `migrate` and `shadow`.
* **Dry run**: param `dry_run`, here or on `access_log_hourly` for the whole loop; the plan stands on the Foreshard page.
* **Old hours** (backfills) are planned as a dry run and never acted on, unless `act_on_old_hours` is set.
* **Approval**: `require_approval` (default: the environment's `FORESHARD_REQUIRE_APPROVAL`) waits under *Required Actions*.
* Moves are journalled: a killed task resumes where it stood, and `shadow_upkeep` resumes what nobody does.
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
        """Go on only where this run may touch live data."""
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
        return loop.for_hour("migrate.clean_moves")

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
