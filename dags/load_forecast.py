"""After an hour is counted: forecast the load of every key and score every partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import PartitionedAssetTimetable, dag, task

import foreshard_airflow as loop

DOC = """
### Tally → forecasts → partition scores

For the hour of the asset `access_tally`:

1. **prepare** reads the history and saves the keys' series.
2. **fit** forecasts each key; the tasks are mapped over chunks of keys. Keys with little history get a fallback.
3. **gate** checks the forecasts, and past ones against last week's load. The DAG `accept_hour` lets a judgement pass.
4. **score** computes each partition's LPS: the peak of its forecast load at the upper quantile, divided by its capacity.

The DAG produces the asset `partition_scores`, partitioned by hour, which starts `rebalance` for the same hour.

* Every task can be repeated. It replaces the results of its hour.
* Manual runs: set a partition key or the param `hour`, for an hour that `access_log_hourly` has counted.
"""


@dag(
    schedule=PartitionedAssetTimetable(assets=loop.ACCESS_TALLY),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=2),
    default_args=loop.DEFAULT_ARGS,
    params=loop.loop_params(),
    tags=["foreshard", "forecast"],
    doc_md=DOC,
)
def load_forecast() -> None:
    @task
    def prepare() -> loop.Summary:
        """Save the hour's series and return the numbers of its chunks."""
        return loop.for_hour("forecast.prepare_chunks")

    @task
    def fit(chunk: int) -> loop.Summary:
        """Forecast one chunk of keys."""
        return loop.for_hour("forecast.fit_chunk", chunk)

    @task(trigger_rule="none_failed")
    def gate() -> loop.Summary:
        """Check the hour's forecasts. Fail without a retry if they cannot be trusted."""
        return loop.for_hour("forecast.gate_forecasts")

    @task(outlets=[loop.PARTITION_SCORES])
    def score() -> loop.Summary:
        """Compute each partition's LPS."""
        summary = loop.for_hour("score.score_partitions")
        loop.announce(loop.PARTITION_SCORES)
        return summary

    @task
    def accuracy() -> loop.Summary:
        """Score the forecast whose horizon ends with this hour."""
        return loop.for_hour("accuracy.measure_accuracy")

    chunks = prepare()
    chunks >> accuracy()
    fit.expand(chunk=chunks) >> gate() >> score()


load_forecast()
