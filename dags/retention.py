"""Every night: delete raw hours, tallies, forecasts and records that are no longer needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, task

import foreshard_airflow as loop

DOC = """
### Retention

Deletes data that is older than a number of days:

* `file_days`: raw hours, their quarantine (that of an import by the age of its file), and the series of the forecasts (Parquet
  files).
* `tally_days`: key load and co-access per hour. The run fails if forecasts or gates still read tallies of that age.
* `forecast_days`: forecasts and partition scores.
* `record_days`: plans, gate results, ended moves, retired shadows and past versions of the routing table: what every decision
  can be traced by. The run fails if plans still look back at moves of that age.

**Dry run** counts, and deletes nothing.
"""


def days(default: int, what: str) -> Param:
    return Param(default, type="integer", minimum=1, description=f"{what} are kept for this many days.")


@dag(
    schedule=CronTriggerTimetable("30 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=loop.DEFAULT_ARGS,
    params={
        "file_days": days(35, "Files"),
        "tally_days": days(120, "Tallies"),
        "forecast_days": days(60, "Forecasts and scores"),
        "record_days": days(180, "Plans, gate results, ended moves, retired shadows and past versions of the table"),
        "dry_run": Param(False, type="boolean", title="Dry run", description="Count, and delete nothing."),
    },
    tags=["foreshard", "observe", "upkeep"],
    doc_md=DOC,
)
def retention() -> None:
    @task
    def forget() -> loop.Summary:
        limits = (int(loop.param(f"{kind}_days")) for kind in ("file", "tally", "forecast", "record"))
        return loop.run("upkeep.forget_old", *limits, dry_run=loop.option("dry_run"))

    forget()


retention()
