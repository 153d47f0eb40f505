"""Every ten minutes: carry on what nobody does, keep shadows fresh, compare them with their primaries, say what is behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, Param, chain, dag, get_current_context, task

import foreshard_airflow as loop

DOC = """
### Upkeep of moves and shadows

* **resume**: moves whose mover has gone silent are carried on (or turned back); fences that an app lifted stand again.
* **clean**: the sources of switched moves whose sidecars follow the new table are emptied.
* **apply**: shadows are brought up to now, for `apply_seconds` at most. Where an applier process runs, it does the work.
* **retire**: copies that left the table and that no sidecar reads any more are deleted.
* **choose → compare**: each time some live shadows are compared with their primaries, and what differs is copied anew.
* **report**: stale shadows, stuck moves, open conflicts; the Foreshard page and the metrics show the same.

Pause it to keep moves from being carried on; nothing else depends on it.
"""


@dag(
    schedule=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args=loop.DEFAULT_ARGS,
    params={
        "apply_seconds": Param(30, type="integer", minimum=1, maximum=600, description="How long replication may take here."),
        "compared": Param(10, type="integer", minimum=0, maximum=100, description="How many shadows are compared each time."),
    },
    tags=["foreshard", "actuate", "upkeep"],
    doc_md=DOC,
)
def shadow_upkeep() -> None:
    @task
    def resume() -> loop.Summary:
        return loop.run("migrate.resume_moves")

    @task
    def clean() -> loop.Summary:
        return loop.run("migrate.clean_moves", wait=False)

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
    chain(resume(), clean(), reported)
    chain(apply(), retire(), reported)
    compare.expand(shadow_id=choose()) >> reported


shadow_upkeep()
