"""Every ten minutes: resume moves, bring shadows up to date, compare them with their primaries, and report lag."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, Param, chain, dag, get_current_context, task

import foreshard_airflow as loop

DOC = """
### Upkeep of moves and shadows

* **tend**: let partitions take writes again where a mover ended behind its fence, forward late changes of switched moves, and
  remove sources' copies that are due. The applier and the load reporter do the same every second.
* **resume**: resume or revert moves whose mover is silent, and repair fences that an app has lifted.
* **apply**: bring shadows up to date, for at most `apply_seconds`. If an applier process runs, it does the work.
* **retire**: delete shadows that have left the routing table and that no sidecar reads.
* **choose → compare**: compare some live shadows with their primaries, in rotation, and copy again what differs.
* **report**: report stale shadows, stuck moves and open conflicts. The Foreshard page and the metrics show them too.

Pause this DAG to keep moves from being resumed. Nothing else depends on it.
"""


@dag(
    schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=loop.DEFAULT_ARGS,
    params={
        "apply_seconds": Param(
            30, type="integer", minimum=1, maximum=600, description="Most seconds that this run replicates."
        ),
        "compared": Param(10, type="integer", minimum=0, maximum=100, description="Shadows that each run compares."),
    },
    tags=["foreshard", "actuate", "upkeep"],
    doc_md=DOC,
)
def shadow_upkeep() -> None:
    @task
    def tend() -> loop.Summary:
        return loop.run("migrate.tend_moves")

    @task(trigger_rule="all_done")
    def resume() -> loop.Summary:
        return loop.run("migrate.resume_moves")

    @task
    def apply() -> loop.Summary:
        return loop.run("shadow_apply.apply_bounded", float(loop.param("apply_seconds")))

    @task
    def retire() -> loop.Summary:
        return loop.run("shadow_listing.retire_shadows")

    @task
    def choose() -> loop.Summary:
        turn = int(get_current_context()["dag_run"].run_after.timestamp() // 600)
        return loop.run("upkeep.shadows_to_compare", int(loop.param("compared")), turn)

    @task(map_index_template="{{ shadow_id }}", max_active_tis_per_dagrun=1)
    def compare(shadow_id: str) -> loop.Summary:
        return loop.run("shadow_repair.repair_shadow", shadow_id)

    @task(trigger_rule="all_done")
    def report() -> loop.Summary:
        return loop.run("upkeep.lag_report")

    reported = report()
    chain(tend(), resume(), reported)
    chain(apply(), retire(), reported)
    compare.expand(shadow_id=choose()) >> reported


shadow_upkeep()
