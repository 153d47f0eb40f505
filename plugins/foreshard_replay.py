"""A task that replays a log with changed settings, and the button in the Airflow UI for its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from foreshard_airflow import page_address, run

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey

CHANGES = (
    "high_water",
    "reserve",
    "nearness",
    "churn",
    "horizon_hours",
    "partitions",
    "utilisation",
    "layout",
    "days",
    "policies",
)
"""The run's params that change the replay."""


class ReplayPageLink(BaseOperatorLink):
    """Opens the replay's page, which the plugin serves to users who may see Foreshard."""

    name = "Replay page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the page of this task's run."""
        return f"{page_address()}replays/{quote(replay_name(ti_key.run_id))}/replay.html"


class WhatIfReplay(BaseOperator):
    """Replays the log in the params. A second run of the task replaces its page."""

    operator_extra_links = (ReplayPageLink(),)

    def execute(self, context: Context) -> Any:
        """Replay the log. Return each policy's overload hours and moves, and the path of the page."""
        params = context["params"]
        changes = {name: params[name] for name in CHANGES}
        return run("experiments.what_if.what_if", params["log"], context["run_id"], changes)


def replay_name(run_id: str) -> str:
    """Return the folder name of a run's replay."""
    from foreshard.stages.experiments.what_if import replay_name as name

    return name(run_id)
