"""The command that learns weights, on a log with latencies and on the profiler of a running mongod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.integration.test_observe_commands import run
from tests.integration.test_profiler_log import MAPPING, address, mongod, shop, wiring

from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.observing.weights import learn_weights
from foreshard.wiring import Wiring

__all__ = ["mongod", "shop", "wiring"]


def log_with_costs(path: Path, cost: bool = True) -> Path:
    rng = np.random.default_rng(7)
    types = np.where(rng.random(4_000) < 0.75, "read", "write")
    times = pd.Timestamp("2026-03-01T08:00Z") + pd.to_timedelta(np.arange(4_000) * 0.9, unit="s")
    made = pd.DataFrame({"timestamp": times.astype(str), "partitionable_key": "k", "request_type": types})
    if cost:
        made["cost"] = np.where(types == "write", 12.0, 3.0) * rng.gamma(2.0, 0.5, 4_000)
    made.to_csv(path, index=False)
    return path


def test_the_command_shows_what_it_learned_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, "weights", str(log_with_costs(tmp_path / "log.csv")))
    assert (code, "4,000 of 4,000 records have a cost" in out, "too few records" in out) == (0, True, True)
    name, _, value = out.splitlines()[-1].partition("=")
    types: dict[str, Any] = json.loads(value.strip("'"))
    assert name == "FORESHARD_OBSERVE__REQUEST_TYPES"
    assert types["write"]["weight"] / types["read"]["weight"] == pytest.approx(4, rel=0.1)
    assert types["delete"] == {"kind": "write", "weight": 2.0}
    monkeypatch.setenv(name, value.strip("'"))
    assert Settings.load().observe.request_types["write"].weight == types["write"]["weight"]
    assert not (tmp_path / "data").exists()


def test_a_log_without_costs_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(tmp_path / "data"))
    code, out, err = run(capsys, "weights", str(log_with_costs(tmp_path / "log.csv", cost=False)))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "none of its 4,000 records has a cost; name the field that has it" in err


def test_documents_examined_in_a_profile_are_a_cost(wiring: Wiring, shop: Any, mongod: Mongod, tmp_path: Path) -> None:
    from foreshard.stores.files.mapping_file import read_mapping

    shop["trips"].create_index("n")
    for n in range(120):
        shop["trips"].find_one({"station": f"s {n % 10}", "n": n % 10})
        shop["trips"].update_one({"station": "nowhere"}, {"$set": {"n": 1}})
    mapping = tmp_path / "docs.toml"
    mapping.write_text(MAPPING.replace('"millis"', '"docs"'))
    found = learn_weights(wiring, address(mongod, shop.name), read_mapping(mapping))
    learned = {one.request_type: one for one in found.weights}
    assert (learned["read"].records, learned["read"].cost) == (120, 1.0)
    assert learned["write"].records == 120
    assert learned["write"].cost == 10.0
    assert found.proposal["write"] == pytest.approx(10 * found.proposal["read"])
