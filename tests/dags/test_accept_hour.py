"""The DAG with which a person accepts an hour that its gate refused."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from foreshard.model import GateResult
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.wiring import Wiring

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
RUNNER = Path(__file__).with_name("run_dags.py")
FAILURES = ("every record comes 2 times: the hour was delivered 2 times",)


def accept(environment: dict[str, str], *cases: dict[str, Any]) -> list[dict[str, Any]]:
    steps = [{"dag": "accept_hour", "conf": {"because": "two shops write the same", **case}} for case in cases]
    command = (sys.executable, str(RUNNER), json.dumps(steps))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=200)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return list(json.loads(done.stdout.strip().splitlines()[-1]))


def test_the_user_who_triggers_it_accepts_what_a_person_can_accept_and_nothing_else(
    airflow_environment: dict[str, str], mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path
) -> None:
    settings = Settings.load(control_uri=mongods[0].uri, control_database=unique_name, data_dir=tmp_path)
    environment = {
        **airflow_environment,
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": unique_name,
        "FORESHARD_DATA_DIR": str(tmp_path),
    }
    passed, final = HOUR + timedelta(hours=1), HOUR + timedelta(hours=2)
    with Wiring(settings) as wiring:
        wiring.gates.save(GateResult("access_log", HOUR, False, FAILURES, 18))
        wiring.gates.save(GateResult("access_log", passed, True, (), 18))
        wiring.gates.save(GateResult("forecasts", final, False, ("NaN",), 18, (), ("NaN",)))
        runs = accept(
            environment,
            {"hour": HOUR.isoformat()},
            {"hour": passed.isoformat()},
            {"hour": final.isoformat(), "gate": "forecasts"},
        )
        assert [run["state"] for run in runs] == ["success", "failed", "failed"]
        assert [task["tries"] for run in runs for task in run["tasks"]] == [1, 1, 1]
        accepted = wiring.gates.acceptance("access_log", HOUR)
        assert accepted is not None
        assert (accepted.by, accepted.because, accepted.failures) == ("dag_test", "two shops write the same", FAILURES)
        assert wiring.gates.acceptance("access_log", passed) is None
        assert wiring.gates.acceptance("forecasts", final) is None
        wiring.control.drop_database(unique_name)
