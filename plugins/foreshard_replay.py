"""A task that replays a log with changed settings, and the button in the Airflow UI that opens its page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink, Context

from foreshard_airflow import page_address, run

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey

CHANGES = ("high_water", "low_water", "reserve", "horizon_hours", "partitions", "utilisation", "layout", "days", "policies")
"""The params of the run that change the replay."""


class ReplayPageLink(BaseOperatorLink):
    """Opens the replay's page, which the plugin serves to those who may see Foreshard."""

    name = "Replay page"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Where the page of this task's run stands."""
        return f"{page_address()}replays/{quote(replay_name(ti_key.run_id))}/replay.html"


class WhatIfReplay(BaseOperator):
    """Replays the log that the params name; running it again replaces its page."""

    operator_extra_links = (ReplayPageLink(),)

    def execute(self, context: Context) -> Any:
        """Run the lab; return each policy's overload hours and moves, and where the page is."""
        params = context["params"]
        changes = {name: params[name] for name in CHANGES}
        return run("what_if.what_if", params["log"], context["run_id"], changes)


def replay_name(run_id: str) -> str:
    """The folder of a run's replay."""
    from foreshard.stages.what_if import replay_name as name

    return name(run_id)
