"""Restarts by the short way: what was remembered of the settings is used at once, and never for long where it is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import httpx
from tests.integration.test_sidecar_process import environment, published, running  # noqa: F401 - fixtures

from foreshard.sidecar.essentials import FILE


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def figure(http: httpx.Client, name: str) -> float | None:
    lines = http.get("/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)), None)


def test_a_restarted_sidecar_follows_the_database_as_before(environment, published, work_folder):  # noqa: F811
    with running(environment):
        pass
    assert (work_folder / FILE).is_file()
    with running(environment) as http:
        assert http.get("/v1/table").json()["version"] == 1
        until(lambda: figure(http, "foreshard_sidecar_connected") == 1.0)
        assert http.post("/v1/refresh").json() == {"table_version": 1}
        assert http.get("/v1/table").json()["source"] == "control database"


def test_a_sidecar_whose_memory_is_wrong_starts_anew_with_the_settings(environment, published, work_folder):  # noqa: F811
    with running(environment):
        pass
    right = json.loads((work_folder / FILE).read_text())
    wrong = {**right, "essentials": right["essentials"] | {"workers": 3, "room_mark": 0.1}}
    (work_folder / FILE).write_text(json.dumps(wrong))
    with running(environment) as http:
        until(lambda: json.loads((work_folder / FILE).read_text()) == right)
        until(lambda: answers(http))
        until(lambda: figure(http, "foreshard_sidecar_workers") == 1.0)
        until(lambda: figure(http, "foreshard_sidecar_connected") == 1.0)


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/v1/route/hot?op=write").status_code == 200
    except httpx.TransportError:
        return False


def test_settings_that_have_become_wrong_are_one_line_and_not_a_traceback(environment, published):  # noqa: F811
    with running(environment):
        pass
    command = [sys.executable, "-c", "from foreshard.cli.main import main; main()", "sidecar"]
    wrong = os.environ | environment | {"FORESHARD_SIDECAR__PORT": "70000"}
    run = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("foreshard: setting FORESHARD_SIDECAR__PORT: ")
