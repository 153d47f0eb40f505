"""Airflow on one machine: ``airflow standalone`` with SQLite and the LocalExecutor, on loopback, with its own login."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foreshard.stack._process import ProcessSpec, require_free_port, running_pid, start, stop, wait_until_ready

USER = "admin"


@dataclass(frozen=True, slots=True)
class AirflowPorts:
    """The ports of the API server and of its two log servers."""

    api: int
    worker_logs: int
    triggerer_logs: int


@dataclass(frozen=True)
class Airflow:
    """A standalone Airflow with its home in ``folder`` and the project's DAGs and plugins.

    ``environment`` is for the tasks (``FORESHARD_…``). The stack generates ``password`` and ``secret``.
    """

    ports: AirflowPorts
    folder: Path
    project: Path
    password: str
    secret: str
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """The address of its UI and API."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def spec(self) -> ProcessSpec:
        """The command line."""
        command = (sys.executable, "-m", "airflow", "standalone")
        return ProcessSpec("airflow", command, self.folder, self.process_environment())

    def launch(self) -> None:
        """Start it unless it is running. Do not wait."""
        if running_pid(self.spec.pid_path) is None:
            for service, port in (("Airflow", self.ports.api), ("Airflow's log server", self.ports.worker_logs)):
                require_free_port(service, port)
        self.folder.mkdir(parents=True, exist_ok=True)
        passwords = self.folder / "simple_auth_manager_passwords.json.generated"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        start(self.spec)

    def wait(self, patience: float = 180) -> None:
        """Wait until the API, the scheduler and the DAG processor are healthy."""
        wait_until_ready("Airflow", self.url, self.is_healthy, self.spec, patience)

    def stop(self) -> bool:
        """End it. Return whether it was running."""
        return stop(self.spec.pid_path, patience=8)

    def is_healthy(self) -> bool:
        """Return whether the API answers and reports a living scheduler and DAG processor."""
        import httpx

        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=2).json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(health.get(part, {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "dag_processor"))

    def process_environment(self) -> dict[str, str]:
        """The environment of the Airflow processes: the stack's settings over this process's environment."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "FORESHARD_"))}
        binaries = str(Path(sys.executable).parent)
        return {
            **inherited,
            **self.environment,
            "PATH": f"{binaries}:{inherited.get('PATH', '')}",
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.project / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.project / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.ports.api),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self.secret,
            "AIRFLOW__API_AUTH__JWT_SECRET": self.secret,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self.ports.worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self.ports.triggerer_logs),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT": "False",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "60",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
        }
