"""Every hour: read the access log of the hour that has closed, check it and count it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronPartitionTimetable, dag, task

import foreshard_airflow as loop

DOC = """
### Access log → tally

For each closed hour (UTC):

1. **extract** reads the hour's records from Kafka into Parquet. It starts a few seconds after the hour has closed, so that
   records which the apps still buffer arrive. Bad records go to a quarantine file with the reason.
2. **gate** checks the records with Great Expectations. Some expectations stop the hour, others only warn.
3. **tally** counts cost per key, location and request type, and co-accesses.
4. **amend** reads the hours before again, as far as `FORESHARD_OBSERVE__ALLOWED_LATENESS` reaches, and counts those again for
   which records have come late. Their forecasts then start anew. It is skipped if nothing has changed.

The DAG produces the asset `access_tally`, partitioned by hour, which starts `load_forecast` for the same hour.

* Every task can be repeated. It replaces the results of its hour.
* A failed gate is not retried and stops the loop for this hour. The published routing table keeps serving. If the records are
  right, accept them (the DAG `accept_hour`, or `foreshard observe accept HOUR --because …`) and clear **gate**.
* Manual runs: set a partition key (`2026-03-01T08:00:00`) or the param `hour`; without both, the last closed hour is used.
* Backfills count the missing hours. `load_forecast` and `rebalance` follow, but nothing is moved for old hours.
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
        """Copy the hour's records from the access log to Parquet, pseudonymised."""
        loop.wait_for_late_records()
        return loop.for_hour("observe.extract_hour")

    @task
    def gate() -> loop.Summary:
        """Check the hour's records. Fail without a retry if they cannot be trusted, unless a person has accepted them."""
        return loop.for_hour("observing.gate.gate_access_log")

    @task(outlets=[loop.ACCESS_TALLY])
    def tally() -> loop.Summary:
        """Count the cost of each key and the co-accesses."""
        summary = loop.for_hour("observe.tally_hour")
        loop.announce(loop.ACCESS_TALLY)
        return summary

    @task(outlets=[loop.ACCESS_TALLY])
    def amend() -> loop.Summary:
        """Count earlier hours again if records have come since. Skip if none has."""
        summary = loop.for_hour("observing.amend.amend_hours")
        loop.announce_changed(loop.ACCESS_TALLY, summary["hours"])
        return summary

    extract() >> gate() >> tally() >> amend()


access_log_hourly()
