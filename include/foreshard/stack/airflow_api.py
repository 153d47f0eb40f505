"""The part of Airflow's REST API that the demo and the tests use: log in, unpause, trigger an hour, follow its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from foreshard.errors import ForeshardError, Unreachable

PARTITION_KEY_FORMAT = "%Y-%m-%dT%H:%M:%S"


class AirflowRefused(ForeshardError):
    """The API answered with an error."""

    def __init__(self, request: str, status: int, said: str) -> None:
        super().__init__(f"Airflow refused {request}: {status} {said}")
        self.request, self.status, self.said = request, status, said


@dataclass(frozen=True, slots=True)
class TaskState:
    """One task instance of a run (``map_index`` is -1 if it is not mapped)."""

    task_id: str
    map_index: int
    state: str | None
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class RunState:
    """One DAG run of a partition."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    started: datetime | None
    ended: datetime | None


def partition_key(hour: datetime) -> str:
    """Return the partition key of an hour as the hourly DAG's timetable writes it."""
    return hour.strftime(PARTITION_KEY_FORMAT)


class AirflowApi:
    """A logged-in client. Call ``close`` when done."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self._login = {"username": user, "password": password}
        self._url = url

    def login(self) -> None:
        """Get a token for the later calls."""
        token = self._call("POST", "/auth/token", json=self._login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def dag_ids(self) -> set[str]:
        """Return the parsed DAGs."""
        return {dag["dag_id"] for dag in self._call("GET", "/api/v2/dags", params={"limit": 100})["dags"]}

    def import_errors(self) -> list[str]:
        """Return the errors from parsing DAG files."""
        errors = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{e['filename']}: {e['stack_trace'].strip().splitlines()[-1]}" for e in errors]

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, hour: datetime, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run for an hour partition. Return its id."""
        body = {"logical_date": None, "partition_key": partition_key(hour), "conf": dict(conf or {})}
        return str(self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[RunState]:
        """Return the latest runs of a DAG, newest first."""
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "-id", "limit": 50})["dag_runs"]
        return [
            RunState(dag_id, r["dag_run_id"], r["state"], r.get("partition_key"), _time(r["start_date"]), _time(r["end_date"]))
            for r in found
        ]

    def run_for(self, dag_id: str, hour: datetime) -> RunState | None:
        """Return the newest run of a DAG for an hour partition."""
        wanted = partition_key(hour)
        return next((run for run in self.runs(dag_id) if run.partition_key == wanted), None)

    def tasks(self, dag_id: str, run_id: str) -> list[TaskState]:
        """Return the task instances of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found = self._call("GET", path, params={"limit": 500})["task_instances"]
        return [
            TaskState(t["task_id"], t["map_index"], t["state"], _time(t["start_date"]), _time(t["end_date"])) for t in found
        ]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Unreachable("Airflow", self._url, "see its log") from error
        if answer.is_error:
            raise AirflowRefused(f"{method} {path}", answer.status_code, answer.text[:300])
        return answer.json()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
