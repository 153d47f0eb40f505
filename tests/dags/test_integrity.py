"""Every DAG parses without warnings and without heavy imports, and is documented."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
DAG_FILES = sorted((PROJECT / "dags").glob("*.py"))
LOOP = ("access_log_hourly", "load_forecast", "rebalance")
PARSER = Path(__file__).with_name("parse_dags.py")
OURS = {"foreshard_airflow", "foreshard_approval", "foreshard_replay"}
ALLOWED_IMPORTS = OURS | {"__future__", "airflow.sdk", "datetime", "typing"}


@pytest.fixture(scope="module")
def parsed(airflow_environment: dict[str, str]) -> dict[str, Any]:
    command = (sys.executable, str(PARSER), str(PROJECT / "dags"))
    done = subprocess.run(command, capture_output=True, text=True, env=airflow_environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout[done.stdout.index('{"errors"') :]))


def test_every_dag_file_parses_and_none_warns(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert parsed["warnings"] == []
    assert {Path(dag["file"]).stem for dag in parsed["dags"].values()} == {path.stem for path in DAG_FILES}


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert parsed["heavy"] == []


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_short_and_imports_airflow_sdk_only(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 100
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    assert modules <= ALLOWED_IMPORTS


def test_every_dag_has_docs_an_owner_and_a_timeout(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert len(dag["doc"]) > 200, dag_id
        assert dag["owner"] == "foreshard", dag_id
        assert "foreshard" in dag["tags"], dag_id
        assert dag["catchup"] is False, dag_id
        assert dag["timeout"], dag_id
        assert 1 <= dag["max_active_runs"] <= 4, dag_id


def test_every_task_is_retried_with_back_off(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        for task_id, task in dag["tasks"].items():
            assert task["retries"] >= 1, (dag_id, task_id)
            assert task["backoff"] > 1, (dag_id, task_id)
            assert task["execution_timeout"] or task_id == "approve", (dag_id, task_id)


def test_each_dag_of_the_loop_is_started_by_the_asset_of_the_one_before(parsed: dict[str, Any]) -> None:
    dags = parsed["dags"]
    assert [dags[name]["timetable"] for name in LOOP] == ["CronPartitionTimetable", *["PartitionedAssetTimetable"] * 2]
    assert [sorted(set(dags[name]["assets"])) for name in LOOP] == [["access_tally"], ["partition_scores"], ["routing_table"]]


def test_nothing_acts_on_a_plan_before_its_gate(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["rebalance"]["tasks"]
    acting = {"start_moves", "migrate", "start_shadows", "shadow", "publish", "clean"}
    assert acting <= downstream_of("gate", tasks)
    assert acting <= downstream_of("act", tasks)
    assert {"gate_table", "clean", "verify"} <= downstream_of("publish", tasks)


def test_an_empty_plan_skips_only_the_mapped_tasks(parsed: dict[str, Any]) -> None:
    tasks = parsed["dags"]["rebalance"]["tasks"]
    assert {name for name, task in tasks.items() if task["mapped"]} == {"migrate", "shadow"}
    for after in tasks["migrate"]["downstream"] + tasks["shadow"]["downstream"]:
        assert tasks[after]["trigger_rule"] == "none_failed", after


def downstream_of(task_id: str, tasks: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = list(tasks[task_id]["downstream"])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += tasks[name]["downstream"]
    return found


def test_every_stage_that_a_dag_calls_exists_and_takes_the_arguments() -> None:
    from foreshard_airflow import stage_function

    for path in DAG_FILES:
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if name in {"for_hour", "run"}:
                function = stage_function(ast.literal_eval(call.args[0]))
                given = len(call.args) - 1 + len(call.keywords) + 1 + (name == "for_hour")
                code = function.__code__
                assert code.co_argcount + code.co_kwonlyargcount >= given, (path.name, ast.unparse(call))
