"""The manual what-if replay of a small log, and the button that opens a run's page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foreshard.model import Location, Partition
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.experiments.what_if import CHANGES as TAKEN
from foreshard.stages.experiments.what_if import replay_name
from foreshard.wiring import Wiring
from foreshard_replay import CHANGES, ReplayPageLink, WhatIfReplay

RUNNER = Path(__file__).with_name("run_dags.py")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of six keys, one of them with bursts."""
    rng = np.random.default_rng(0)
    first = pd.Timestamp("2026-03-02", tz="UTC")
    rows = [
        (first + pd.Timedelta(hours=hour, minutes=int(minute)), f"key {key}", "read", "San Jose" if key % 2 else "Palo Alto")
        for hour in range(96)
        for key in range(6)
        for minute in rng.integers(0, 60, 2 + 6 * (key == 0 and hour % 24 == 8))
    ]
    frame = pd.DataFrame(rows, columns=["timestamp", "partitionable_key", "request_type", "location"]).assign(user_id="u")
    path = tmp_path_factory.mktemp("logs") / "small.parquet"
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def runs(
    log: Path, folder: Path, mongods: tuple[Mongod, ...], airflow_environment: dict[str, str]
) -> dict[str, dict[str, Any]]:
    settings = {
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": "what_if",
        "FORESHARD_DATA_DIR": str(folder),
    }
    with Wiring(Settings.load(control_uri=mongods[0].uri, control_database="what_if")) as wiring:
        live = [Partition(name, "San Jose", 0.01, "mongodb://127.0.0.1:1") for name in ("alpha", "beta")]
        wiring.registry.register(live, [Location("San Jose", 37.3, -121.9)])
    common: dict[str, Any] = {"log": str(log), "days": 1, "policies": ["static_hash", "predictive"]}
    asked = {
        "equal": {**common, "partitions": 3, "utilisation": 0.6, "high_water": 0.7, "churn": 0.5},
        "current": {**common, "layout": "current"},
        "no log": {**common, "log": str(folder / "none.parquet")},
    }
    steps = [{"dag": "what_if_replay", "conf": conf, "environment": settings} for conf in asked.values()]
    command = (sys.executable, str(RUNNER), json.dumps(steps))
    done = subprocess.run(command, capture_output=True, text=True, env=airflow_environment, check=False, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return dict(zip(asked, json.loads(done.stdout.strip().splitlines()[-1]), strict=True))


def link(run_id: str) -> str:
    key: Any = SimpleNamespace(run_id=run_id)
    return ReplayPageLink().get_link(WhatIfReplay(task_id="replay"), ti_key=key)


def test_a_run_writes_the_page_that_its_button_opens_and_the_figures(runs: dict[str, dict[str, Any]], folder: Path) -> None:
    assert runs["equal"]["state"] == "success"
    address = link(runs["equal"]["run_id"])
    assert address.startswith("/foreshard/replays/")
    page = folder / address.removeprefix("/foreshard/")
    assert "<title>Replay of small.parquet</title>" in page.read_text()
    figures = json.loads(page.with_name("replay.json").read_text())
    assert set(figures["policies"]) == {"static_hash", "predictive"}
    assert len(figures["layout"]["partitions"]) == 3
    assert figures["log"]["replayed_hours"] == 24


def test_the_registered_partitions_can_be_the_layout(runs: dict[str, dict[str, Any]], folder: Path) -> None:
    assert runs["current"]["state"] == "success"
    figures = json.loads((folder / "replays" / replay_name(runs["current"]["run_id"]) / "replay.json").read_text())
    assert [(p["partition_id"], p["capacity"]) for p in figures["layout"]["partitions"]] == [("alpha", 0.01), ("beta", 0.01)]


def test_a_missing_log_fails_the_task_without_retries(runs: dict[str, dict[str, Any]]) -> None:
    assert runs["no log"]["state"] == "failed"
    assert [task["tries"] for task in runs["no log"]["tasks"]] == [1]


def test_the_button_s_link_cannot_leave_the_replays_folder() -> None:
    assert link("manual__2026-03-01T08:00:00+00:00") == "/foreshard/replays/manual__2026-03-01T08-00-00-00-00/replay.html"
    assert link("../../etc/passwd") == "/foreshard/replays/-..-etc-passwd/replay.html"
    assert link("..") == "/foreshard/replays/replay/replay.html"


def test_the_stage_accepts_every_param_that_changes_a_replay() -> None:
    assert set(CHANGES) == set(TAKEN)
