"""A restarted sidecar follows the control database again, and reports wrong settings in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
from tests.integration.test_sidecar_process import environment, published, running  # noqa: F401 - fixtures


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def figure(http: httpx.Client, name: str) -> float | None:
    lines = http.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), None)


def test_a_restarted_sidecar_follows_the_control_database(environment, published):  # noqa: F811
    with running(environment):
        pass
    with running(environment) as http:
        assert http.get("/v1/table").json()["version"] == 1
        until(lambda: figure(http, "foreshard_sidecar_connected") == 1.0)
        assert http.post("/v1/refresh").json() == {"table_version": 1}
        assert http.get("/v1/table").json()["source"] == "control database"


def test_wrong_settings_are_reported_in_one_line_without_a_traceback(environment, published):  # noqa: F811
    with running(environment):
        pass
    command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar"]
    wrong = os.environ | environment | {"FORESHARD_SIDECAR__PORT": "70000"}
    run = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("foreshard: setting FORESHARD_SIDECAR__PORT: ")
