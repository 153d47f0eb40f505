"""The plugin in an Airflow process: settings from connections, and a listener that never fails a task."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from pymongo import MongoClient

from foreshard.errors import GateFailed, Unreachable
from foreshard.stack.mongod import Mongod
from foreshard_airflow import airflow_settings
from foreshard_plugin import ForeshardPlugin, LazyApp, OutcomeListener, one_line, page_address

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


def task_instance(tags: set[str], dag_id: str = "rebalance") -> SimpleNamespace:
    dag = SimpleNamespace(tags=tags)
    return SimpleNamespace(
        dag_id=dag_id, task_id="plan", task=SimpleNamespace(dag=dag), start_date=datetime.now(UTC) - timedelta(seconds=2)
    )


@pytest.fixture
def control_settings(mongods: tuple[Mongod, ...], unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL_URI", mongods[0].uri)
    monkeypatch.setenv("FORESHARD_CONTROL_DATABASE", unique_name)


def test_airflow_connections_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_KAFKA_BOOTSTRAP", "from-the-environment:9092")
    assert airflow_settings().kafka_bootstrap == "from-the-environment:9092"
    monkeypatch.setenv("AIRFLOW_CONN_FORESHARD_KAFKA", "kafka://broker:9093")
    monkeypatch.setenv("AIRFLOW_CONN_FORESHARD_MONGO", "mongo://someone:a%40b@ignored")
    monkeypatch.setenv("AIRFLOW_CONN_FORESHARD_USERS", "generic://:pseudonyms-of-32-bytes-at-the-least@")
    settings = airflow_settings()
    assert settings.kafka_bootstrap == "broker:9093"
    assert settings.mongo_username == "someone"
    assert settings.mongo_password is not None
    assert settings.mongo_password.get_secret_value() == "a@b"
    assert settings.require_user_key() == b"pseudonyms-of-32-bytes-at-the-least"
    assert "a@b" not in repr(settings)


def test_outcomes_are_counted_per_task_and_state(control_settings: None, control: MongoClient, unique_name: str) -> None:
    listener = OutcomeListener()
    listener.on_task_instance_success(task_instance({"foreshard"}))
    listener.on_task_instance_success(task_instance({"foreshard"}))
    listener.on_task_instance_skipped(task_instance({"foreshard"}))
    listener.on_task_instance_failed(task_instance({"foreshard"}), Unreachable("Kafka", "x:1", "start it"))
    found = {document["_id"]: document for document in control[unique_name].task_outcomes.find()}
    assert {name: document["count"] for name, document in found.items()} == {
        "rebalance/plan/success": 2,
        "rebalance/plan/skipped": 1,
        "rebalance/plan/failed": 1,
    }
    assert found["rebalance/plan/success"]["seconds"] >= 4
    assert found["rebalance/plan/failed"]["error"] == "Unreachable: Kafka at x:1 does not answer; start it"


def test_tasks_of_other_dags_are_not_counted(control_settings: None, control: MongoClient, unique_name: str) -> None:
    OutcomeListener().on_task_instance_success(task_instance({"somebody"}, "theirs"))
    assert control[unique_name].list_collection_names() == []


@pytest.mark.parametrize("broken", ["database", "task"])
def test_an_error_in_the_listener_does_not_leave_it(
    broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FORESHARD_CONTROL_URI", "mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=50")
    ours = task_instance({"foreshard"}) if broken == "database" else SimpleNamespace()
    with caplog.at_level(logging.WARNING, logger="foreshard.airflow"):
        OutcomeListener().on_task_instance_failed(ours, ValueError("x"))
    assert "was not counted" in caplog.text


def test_an_error_is_one_line() -> None:
    assert one_line(KeyError("epoch")) == "KeyError: 'epoch'"
    assert one_line(ValueError("first\nsecond")) == "ValueError: first"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line("said by Airflow") == "said by Airflow"
    assert len(one_line("x" * 1000)) == 300
    assert one_line(GateFailed("plan", "08:00", ["7 moves"])).endswith("gate plan failed for 08:00: 7 moves")


def test_the_page_is_below_the_api_server_s_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_address() == "/foreshard/"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://company.example/airflow/")
    assert page_address() == "/airflow/foreshard/"


def test_the_page_is_in_the_navigation_and_imported_with_its_first_request() -> None:
    (view,) = ForeshardPlugin.external_views
    (mounted,) = ForeshardPlugin.fastapi_apps
    assert view["destination"] == "nav"
    assert str(view["href"]).rstrip("/").endswith(str(mounted["url_prefix"]))
    assert isinstance(mounted["app"], LazyApp)
