"""``foreshard run hour`` on real partitions: a partition full of many small keys is relieved hour by hour, without Airflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from tests.integration.test_sidecar_process import running

from foreshard.cli.group import cli
from foreshard.errors import HourRefused
from foreshard.model import Location, Partition
from foreshard.model.key_space import SLOT_MARK, KeyType
from foreshard.settings import Settings
from foreshard.stages.log_import import import_history
from foreshard.stages.publish import verify_hour
from foreshard.stores.bson_codec import key_value
from foreshard.wiring import Wiring

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
HOURS = tuple(NOW - timedelta(hours=back) for back in (3, 2, 1))
HISTORY = 30
KEYS = tuple(str(n) for n in range(3_000))
ACCESSES = 3.0
"""Accesses of a typical key per hour."""


def log(since: datetime, hours: int) -> pd.DataFrame:
    """Reads of all keys in these hours, with skewed rates."""
    rng = np.random.default_rng(since.hour)
    rates = ACCESSES * np.random.default_rng(7).lognormal(0.0, 0.6, len(KEYS))
    counts = rng.poisson(np.broadcast_to(rates, (hours, len(KEYS))))
    hour, key = np.repeat(np.indices(counts.shape).reshape(2, -1), counts.ravel(), axis=1)
    seconds = hour * 3600.0 + rng.uniform(0, 3600, len(hour))
    return pd.DataFrame(
        {
            "timestamp": since + pd.to_timedelta((seconds * 1000).astype(int), unit="ms"),
            "partitionable_key": np.array(KEYS, object)[key],
            "user_id": [f"user {n % 997}" for n in range(len(hour))],
            "request_type": "read",
            "location": "here",
        }
    )


@pytest.fixture(autouse=True)
def _the_present_hour(monkeypatch) -> None:
    """A long run of tests may have begun in another hour."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    monkeypatch.setattr(sys.modules[__name__], "NOW", now)
    monkeypatch.setattr(sys.modules[__name__], "HOURS", tuple(now - timedelta(hours=back) for back in (3, 2, 1)))


@pytest.fixture
def key_type() -> KeyType:
    return KeyType.STRING


@pytest.fixture
def environment(mongods, unique_name, work_folder, key_type) -> dict[str, str]:
    shop = {"database": unique_name, "collection": "orders", "key_field": "product", "key_type": key_type}
    return {
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": unique_name,
        "FORESHARD_DATA_DIR": str(work_folder),
        "FORESHARD_COLLECTIONS": json.dumps([shop]),
        "FORESHARD_USER_KEY": "k" * 32,
        "FORESHARD_MIGRATE__SOURCE_KEPT": "PT0S",
        "FORESHARD_FORECAST__HISTORY_DAYS": "3",
        "FORESHARD_FORECAST__HORIZON_HOURS": "6",
        "COLUMNS": "200",
    }


@pytest.fixture
def run(environment) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli, list(arguments), env=environment)


@pytest.fixture
def wiring(environment, monkeypatch, mongods, partition_clients, control, unique_name, run, key_type):
    """3,000 keys on alpha, which they fill to LPS 1.2 or so; beta is empty."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    total = ACCESSES * float(np.random.default_rng(7).lognormal(0.0, 0.6, len(KEYS)).sum()) / 3600
    with Wiring(Settings.load()) as built:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:3]}
        capacity = total / 1.15
        built.registry.register([Partition(n, "here", capacity, u) for n, u in uris.items()], [Location("here", 0, 0)])
        orders = partition_clients["alpha"][unique_name]["orders"]
        orders.insert_many(
            [{"_id": f"{key}/{n}", "product": key_value(key, key_type), "pad": "x" * 100} for key in KEYS for n in (1, 2)]
        )
        assert run("table", "init", "--unlisted-on", "alpha").exit_code == 0
        import_history(built, log(HOURS[0] - timedelta(hours=HISTORY), HISTORY + 1))
        yield built


def moves(wiring) -> int:
    return len(wiring.move_journal.find(()))


def test_without_act_the_hour_is_planned_and_shown_and_nothing_moves(run, wiring) -> None:
    done = run("run", "hour", f"{HOURS[0]:%Y-%m-%dT%H}")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines() if " s  " in line or line.endswith(" s")][:5] == [
        "prepare", "fit", "gate", "score", "plan",
    ]  # fmt: skip
    assert "together, leaving alpha at" in done.output.replace("\n", " ")
    assert "nothing was moved: --act carries the plan out" in done.output
    assert moves(wiring) == 0
    assert wiring.plans.load(HOURS[0]).dry_run


def test_an_hour_that_is_not_over_or_not_the_newest_is_refused_in_one_line(run, wiring) -> None:
    import_history(wiring, log(HOURS[1], 1), HOURS[1], HOURS[1] + timedelta(hours=1))
    refused = run("run", "hour", f"{NOW:%Y-%m-%dT%H}").exception
    assert isinstance(refused, HourRefused)
    assert "is not over yet; run it after" in str(refused)
    older = run("run", "hour", f"{HOURS[0]:%Y-%m-%dT%H}", "--act").exception
    assert isinstance(older, HourRefused)
    assert "is not the newest" in str(older)
    assert "--act-on-old-hours" in str(older)
    assert moves(wiring) == 0


@pytest.mark.parametrize(
    ("few_keys", "key_type"),
    [("0", KeyType.STRING), ("5000", KeyType.STRING), ("0", KeyType.INT)],
    ids=["slots", "keys", "slots of integers"],
)
def test_a_partition_full_of_small_keys_reaches_the_best_split_within_three_hours_plans(
    run, wiring, partition_clients, unique_name, environment, few_keys
) -> None:
    environment["FORESHARD_OBSERVE__FEW_KEYS"] = few_keys
    plans = []
    for number, hour in enumerate(HOURS):
        if number:
            import_history(wiring, log(hour, 1), hour, hour + timedelta(hours=1))
        done = run("run", "hour", f"{hour:%Y-%m-%dT%H}", "--act")
        print(done.output)
        assert done.exit_code == 0, done.exception
        plans.append(wiring.plans.load(hour))
    first, last = plans[0], plans[-1]
    assert first.lps_before["alpha"] > 1.0
    assert max(last.lps_after.values()) <= 1.1 * first.lps_before["alpha"] / 2
    slots = sum(unit.startswith(SLOT_MARK) for move in first.moves for unit in move.units)
    assert (slots > 1_000) == (few_keys == "0")
    held = {name: partition_clients[name][unique_name]["orders"].count_documents({}) for name in ("alpha", "beta")}
    assert sum(held.values()) == verify_hour(wiring, HOURS[-1]).documents == 2 * len(KEYS)
    assert 0.3 < held["beta"] / sum(held.values()) < 0.7
    _routes_are_answered(run, wiring, environment)


def _routes_are_answered(run, wiring, environment) -> None:
    """``foreshard route`` answers for a listed and for an unlisted key."""
    table = wiring.routing.current()
    listed = next(key for key in KEYS if key in table.placements)
    unlisted = next(key for key in KEYS if key not in table.placements)
    with running(environment) as http:
        for key, said in ((listed, "listed"), (unlisted, "slot")):
            answered = run("route", key, "--op", "write", "--url", str(http.base_url))
            print(answered.output)
            assert answered.exit_code == 0, answered.exception
            assert said in answered.output
            assert f"primary copy on {wiring.routing.placement(key).primary}" in answered.output
