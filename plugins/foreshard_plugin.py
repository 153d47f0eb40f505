"""The Airflow plugin: the page in the navigation, and a listener that counts the outcomes of tasks.

Every Airflow process imports this file, so its imports are light. The page's application is imported with its first request.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

from foreshard_airflow import PAGE, TAG, airflow_settings, page_address
from foreshard_replay import ReplayPageLink

log = logging.getLogger("foreshard.airflow")


class LazyApp:
    """An ASGI application that is imported with its first request."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on."""
        if self._app is None:
            import importlib

            self._app = getattr(importlib.import_module(self._module), self._name)
        await self._app(scope, receive, send)


class OutcomeListener:
    """Counts the outcomes of tasks in the control database. Its own errors are logged and never fail a task."""

    @hookimpl
    def on_task_instance_success(self, task_instance: Any) -> None:
        """Count a success."""
        self.note(task_instance, "success")

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any, error: Any) -> None:
        """Count a failed try."""
        self.note(task_instance, "failed", error)

    @hookimpl
    def on_task_instance_skipped(self, task_instance: Any) -> None:
        """Count a skipped task."""
        self.note(task_instance, "skipped")

    def note(self, task_instance: Any, state: str, error: Any = None) -> None:
        """Count one outcome of a Foreshard task. Never raises."""
        try:
            if TAG in task_instance.task.dag.tags:
                _record(task_instance, state, error, datetime.now(UTC))
        except Exception as problem:
            log.warning("the outcome of a task was not counted: %s: %s", type(problem).__name__, problem)


def one_line(error: Any) -> str:
    """Return an error's first line, with its type unless it is an Airflow exception."""
    line = (str(error).strip().splitlines() or [""])[0]
    ours = not isinstance(error, BaseException) or type(error).__name__.startswith("Airflow")
    return (line if ours and line else f"{type(error).__name__}: {line}".rstrip(": "))[:300]


def _record(task_instance: Any, state: str, error: Any, now: datetime) -> None:
    from foreshard.wiring import Wiring

    started = getattr(task_instance, "start_date", None)
    seconds = (now - started).total_seconds() if started else 0.0
    line = None if error is None else one_line(error)
    with Wiring(airflow_settings()) as wiring:
        wiring.task_outcomes.record(task_instance.dag_id, task_instance.task_id, state, seconds, now, line)


class ForeshardPlugin(AirflowPlugin):
    """Registers the page, the link to a replay's page, and the listener."""

    name = "foreshard"
    fastapi_apps = [{"app": LazyApp("foreshard_ui.app", "app"), "url_prefix": PAGE.rstrip("/"), "name": "Foreshard"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Foreshard", "href": page_address(), "destination": "nav", "url_route": "foreshard", "nav_top_level": True}
    ]
    operator_extra_links = [ReplayPageLink()]  # noqa: RUF012
    listeners = [OutcomeListener()]  # noqa: RUF012
