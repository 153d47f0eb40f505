"""Airflow for the tests: its own home in the temporary folder, with the project's DAGs and plugins.

The environment is set when this file is imported, because Airflow reads it when it is first imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HOME = tempfile.TemporaryDirectory(prefix="foreshard-airflow-")

AIRFLOW_ENVIRONMENT = {
    "AIRFLOW_HOME": HOME.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME.name}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{HOME.name}/logs",
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
}
os.environ.update(AIRFLOW_ENVIRONMENT)
if str(PROJECT / "plugins") not in sys.path:
    sys.path.append(str(PROJECT / "plugins"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/dags/" in str(item.path):
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(scope="session")
def airflow_environment() -> dict[str, str]:
    """Return the environment of a separate Airflow process, without the ``FORESHARD_…`` settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FORESHARD_")}
    return {**kept, **AIRFLOW_ENVIRONMENT, "PYTHONWARNINGS": "ignore"}
