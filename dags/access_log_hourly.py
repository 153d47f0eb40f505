"""Every closed hour: fetch its access log, check it, count it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronPartitionTimetable, dag, task

import foreshard_airflow as loop

DOC = """
### Access log → tally

For each closed hour (UTC): **extract** the hour's records from Kafka by their offsets into Parquet, a few seconds after the
hour closes so that what the apps still buffer arrives (bad records go to a quarantine file with the reason); **gate** them with
Great Expectations; **tally** cost per key, location and request type, and which keys are co-accessed.

* Produces the asset `access_tally`, partitioned by hour, which starts `load_forecast` for the same hour.
* Every task may run again: it replaces what stood for its hour.
* A failed gate fails at once and stops the loop for this hour; the published routing table keeps serving.
* Manual: give a partition key (`2026-03-01T08:00:00`) or the param `hour`; with neither it takes the last closed hour.
* Backfill: it counts the missing hours; `load_forecast` and `rebalance` follow, but nothing is moved for old hours.
"""


@dag(
    schedule=CronPartitionTimetable("0 * * * *", timezone="UTC", run_offset=-1),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    dagrun_timeout=timedelta(hours=1),
    default_args=loop.DEFAULT_ARGS,
    params=loop.loop_params(),
    tags=["foreshard", "observe"],
    doc_md=DOC,
)
def access_log_hourly() -> None:
    @task
    def extract() -> loop.Summary:
        """Copy the hour's records from the access log into Parquet, pseudonymised."""
        loop.wait_until_settled()
        return loop.for_hour("observe.extract_hour")

    @task
    def gate() -> loop.Summary:
        """Check the hour's records; fail at once where they can't be trusted."""
        return loop.for_hour("observe.gate_access_log")

    @task(outlets=[loop.ACCESS_TALLY])
    def tally() -> loop.Summary:
        """Count cost per key and which keys are used together."""
        summary = loop.for_hour("observe.tally_hour")
        loop.announce(loop.ACCESS_TALLY)
        return summary

    extract() >> gate() >> tally()


access_log_hourly()
