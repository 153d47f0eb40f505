"""Manual: drain a partition, or make it active again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, task

import foreshard_airflow as loop

DOC = """
### Drain a partition

Sets the partition's state to `draining`. From the next hour on, `rebalance` moves its keys away, within the limits on moves and
bytes per hour, and puts no key on it. The partition keeps serving the keys that it still has.

* The task returns the numbers of listed keys and shadows that are left. Run it again, or see the Foreshard page, to follow.
* Before you shut the partition's MongoDB down, wait until nothing is left **and** publish a default rule without it.
* `back_into_service` makes it `active` again.
"""


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args=loop.DEFAULT_ARGS,
    params={
        "partition_id": Param(type="string", minLength=1, title="Partition", description="The id of a registered partition."),
        "back_into_service": Param(False, type="boolean", title="Back into service", description="Make it active again."),
    },
    tags=["foreshard", "plan", "manual"],
    doc_md=DOC,
)
def drain_partition() -> None:
    @task
    def drain() -> loop.Summary:
        return loop.run("upkeep.drain_partition", loop.param("partition_id"), loop.option("back_into_service"))

    drain()


drain_partition()
