from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from foreshard.cli.forecast import forecast
from foreshard.errors import CorruptLog
from foreshard.stores.files.log_counter import count_log

START = datetime(2024, 3, 4, tzinfo=UTC)
WEIGHTS = {"read": 1.0, "write": 2.0}


def records(days: int, keys: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """Each key has one access per hour since midnight, in each hour."""
    moments = [START + timedelta(hours=h, seconds=s) for h in range(days * 24) for s in range(12 - abs(12 - h % 24))]
    frames = [
        pd.DataFrame({"timestamp": moments, "partitionable_key": key, "user_id": "u", "request_type": "read", "location": "x"})
        for key in keys
    ]
    return pd.concat(frames, ignore_index=True)


def test_a_log_is_counted_by_hour_key_and_location(work_folder: Path) -> None:
    log = records(2)
    log.loc[0, "request_type"] = "write"
    log.to_parquet(work_folder / "log.parquet")
    counted = count_log(work_folder / "log.parquet", WEIGHTS)
    assert counted.load["cost"].sum() == len(log) + 1
    assert counted.first == START + timedelta(hours=1)
    assert counted.last == START + timedelta(hours=47)
    assert len(counted.hours()) == 47


def test_records_that_cannot_be_counted_are_left_out_by_reason(work_folder: Path) -> None:
    log = records(2)
    log["timestamp"] = log["timestamp"].map(lambda moment: moment.isoformat())
    log.loc[0, "partitionable_key"] = None
    log.loc[1, "timestamp"] = "yesterday"
    log.loc[2, "timestamp"] = "2199-01-01T00:00:00+00:00"
    log.loc[3, "request_type"] = "dance"
    log["cost"] = np.nan
    log.loc[4, "cost"] = -1.0
    log.to_csv(work_folder / "log.csv", index=False)
    counted = count_log(work_folder / "log.csv", WEIGHTS)
    assert counted.left_out == {
        "missing key": 1,
        "unparsable time": 1,
        "before 1980 or in the future": 1,
        "negative cost": 1,
    }
    assert counted.assumed == {"dance": 1}
    assert counted.load["cost"].sum() == len(log) - 4


def test_json_lines_and_parquet_are_counted_alike(work_folder: Path) -> None:
    log = records(2)
    log["partitionable_key"] = log["partitionable_key"].map({"a": "0017", "b": "17"})
    log.to_parquet(work_folder / "log.parquet")
    log["timestamp"] = log["timestamp"].map(lambda moment: moment.isoformat())
    log.to_json(work_folder / "log.jsonl.gz", orient="records", lines=True)
    ours, theirs = (count_log(work_folder / name, WEIGHTS) for name in ("log.jsonl.gz", "log.parquet"))
    pd.testing.assert_frame_equal(ours.load, theirs.load)


def test_a_measured_cost_counts_instead_of_the_weight(work_folder: Path) -> None:
    log = records(1, ("a",))
    log["cost"] = [2.5] + [np.nan] * (len(log) - 1)
    log.to_parquet(work_folder / "log.parquet")
    assert count_log(work_folder / "log.parquet", WEIGHTS).load["cost"].sum() == len(log) + 1.5


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.parquet", None, "no such file"),
        ("torn.parquet", b"PAR1 torn", "it can.t be read"),
        ("other.csv", b"time,key\n1,2\n", "it has no column timestamp, partitionable_key, request_type"),
        ("empty.csv", b"", "it can.t be read .it is empty."),
        ("bad.csv", b"timestamp,partitionable_key,request_type\nnever,a,read\n", "none of its 1 records can be counted"),
    ],
)
def test_an_unreadable_log_is_one_line(work_folder: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (work_folder / name).write_bytes(content)
    with pytest.raises(CorruptLog, match=problem):
        count_log(work_folder / name, WEIGHTS)


def test_forecast_fit_writes_a_row_per_key_and_hour_ahead(work_folder: Path) -> None:
    records(21).to_parquet(work_folder / "log.parquet")
    output = work_folder / "out" / "forecast.parquet"
    result = CliRunner().invoke(
        forecast, ["fit", str(work_folder / "log.parquet"), "--engine", "prophet", "--output", str(output)]
    )
    assert result.exit_code == 0, result.output
    assert "forecast 2 keys after 2024-03-24T23Z" in result.output
    table = pd.read_parquet(output)
    assert len(table) == 48
    assert table["hour"].min() == pd.Timestamp("2024-03-25T00:00Z")
    first = table[table["partitionable_key"] == "a"]
    np.testing.assert_allclose(first["mean"], 12 - np.abs(12 - np.arange(24)), atol=1.0)
    assert set(table["model"]) == {"prophet"}


def test_several_processes_forecast_the_same_as_one(work_folder: Path) -> None:
    records(20, tuple("abcde")).to_parquet(work_folder / "log.parquet")
    tables = []
    for processes in ("1", "2"):
        options = ["--engine", "prophet", "--horizon", "3", "--processes", processes, "--output", str(work_folder / "made.csv")]
        made = CliRunner().invoke(
            forecast, ["fit", str(work_folder / "log.parquet"), *options], env={"FORESHARD_FORECAST__CHUNK_KEYS": "2"}
        )
        assert made.exit_code == 0, made.output
        tables.append(pd.read_csv(work_folder / "made.csv"))
    pd.testing.assert_frame_equal(*tables)
    assert set(tables[0]["partitionable_key"]) == set("abcde")


def test_forecast_backtest_scores_every_method_at_both_levels_and_writes_json(work_folder: Path) -> None:
    random = np.random.default_rng(3)
    hours = np.arange(24 * 24)
    rows = []
    for number in range(6):
        rates = np.maximum(3.0 * (1 + np.sin((hours - number) / 24 * 2 * np.pi)), 0.05)
        for hour, count in zip(hours.tolist(), random.poisson(rates).tolist(), strict=True):
            moment = START + timedelta(hours=hour)
            rows += [(moment + timedelta(seconds=s), f"k{number}", "read", f"place {number % 2}") for s in range(count)]
    log = pd.DataFrame(rows, columns=["timestamp", "partitionable_key", "request_type", "location"])
    log.to_parquet(work_folder / "log.parquet")
    figures = work_folder / "figures" / "backtest.json"
    options = ["--origins", "3", "--history-days", "14", "--prophet-fits", "4", "--peer-fits", "3", "--engine", "blended"]
    result = CliRunner().invoke(forecast, ["backtest", str(work_folder / "log.parquet"), *options, "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert "partition level" in result.output
    written = json.loads(figures.read_text())
    baselines = {"seasonal_naive", "four_week_mean", "last_hour"}
    assert set(written["levels"]["key"]) >= {"foreshard", "prophet", "prophet_batched", *baselines}
    peers = {"statsforecast_auto_ets", "statsforecast_mstl", "foreshard_at_statsforecasts_origins"}
    assert set(written["levels"]["key"]) >= {*peers, "foreshard_on_statsforecasts_sample", "foreshard_on_prophets_sample"}
    assert set(written["levels"]["partition"]) >= {"foreshard", *baselines, *peers}
    assert written["about"]["partitions"] == ["place 0", "place 1"]
    for methods in written["levels"].values():
        for method in methods.values():
            assert set(method) >= {"wape", "mase", "pinball", "coverage", "seconds"}
        assert methods["foreshard"]["wape"] < min(methods[name]["wape"] for name in baselines)
    by_hash = CliRunner().invoke(
        forecast, ["backtest", str(work_folder / "log.parquet"), *options, "--peer-fits", "0", "--partitions", "3"]
    )
    assert by_hash.exit_code == 0, by_hash.output


def test_a_log_too_short_to_backtest_is_refused(work_folder: Path) -> None:
    records(1).to_parquet(work_folder / "log.parquet")
    result = CliRunner().invoke(forecast, ["backtest", str(work_folder / "log.parquet")])
    assert isinstance(result.exception, CorruptLog)
    assert "too few for a day of history" in str(result.exception)


def test_an_unknown_output_format_is_refused_before_any_work(work_folder: Path) -> None:
    records(2).to_parquet(work_folder / "log.parquet")
    result = CliRunner().invoke(forecast, ["fit", str(work_folder / "log.parquet"), "--output", str(work_folder / "out.txt")])
    assert "is not a .parquet or .csv file" in str(result.exception)
