"""Manual: a person accepts what a gate has found wrong with an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, get_current_context, task

import foreshard_airflow as loop

DOC = """
### Accept an hour that its gate refused

1. Look at the hour: the gate's failures are in its task's log and on the Foreshard page, with the Data Docs.
2. Trigger this DAG with the `gate`, the `hour` and the reason. The name is that of the user who triggers it.
3. Clear the failed gate (`gate`, or `gate_table`) of the run that it stopped. It passes, shows what was accepted as a warning,
   and the tasks behind it run.

* The acceptance holds for what the gate has found. If it finds something else when it runs again, the hour stops again.
* What no person can accept is refused here: a forecast that is not a number, an epoch that fell, a plan that breaks a rule.
* The same without Airflow: `foreshard observe accept`, `foreshard forecast accept`, `foreshard table accept`.
"""

GATES = ["access_log", "forecasts", "table"]


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args=loop.DEFAULT_ARGS,
    params={
        "gate": Param("access_log", type="string", enum=GATES, title="Gate", description="The gate that refused the hour."),
        "hour": Param(type="string", minLength=13, title="Hour", description="Start of the hour, such as 2026-03-01T08:00:00."),
        "because": Param(type="string", minLength=3, maxLength=500, title="Reason", description="Kept with the gate's result."),
    },
    tags=["foreshard", "observe", "manual"],
    doc_md=DOC,
)
def accept_hour() -> None:
    @task
    def accept() -> loop.Summary:
        """Save who accepts the hour, and why. Fail without a retry if there is nothing that a person can accept."""
        by = get_current_context()["dag_run"].triggering_user_name or ""
        hour, because = loop.parse_hour(loop.param("hour")), loop.param("because")
        return loop.run("judging.acceptance.accept_result", loop.param("gate"), hour, by, because)

    accept()


accept_hour()
