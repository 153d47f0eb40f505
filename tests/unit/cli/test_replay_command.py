"""``foreshard replay`` on the command line: its figures, and its answers to unusual and invalid input."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from foreshard.cli.group import cli
from foreshard.errors import ConfigurationError, CorruptLog, ForeshardError, UnknownEngine, UnusableCapacity

COLUMNS = ["timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id", "cost"]
FIGURES = {
    "overload_hours",
    "overflow_share",
    "worst_utilisation",
    "p99_utilisation",
    "moves",
    "bytes",
    "keys_moved_twice_a_day",
    "cross_partition_share",
    "mean_distance_km",
    "shadows",
    "least_capacity",
}
POLICIES = {"static_hash", "static_geo", "reactive", "predictive", "oracle", "mongodb_balance"}


def records(days=4, keys=3, seed=0):
    rng = np.random.default_rng(seed)
    first = pd.Timestamp("2026-03-02", tz="UTC")
    rows = [
        (first + pd.Timedelta(hours=hour, minutes=int(minute)), f"k{key}", "u", "read", f"place {key % 2}", f"s{hour}", 1.0)
        for hour in range(24 * days)
        for key in range(keys)
        for minute in rng.integers(0, 60, 1 + 4 * (hour % 24 == 9))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def replayed(tmp_path):
    """Run the command on a frame. Return the JSON and the output."""

    def run(frame, *options, suffix=".csv"):
        log = tmp_path / f"log{suffix}"
        if suffix == ".csv":
            frame.to_csv(log, index=False)
        elif suffix == ".parquet":
            frame.to_parquet(log)
        else:
            frame.to_json(log, orient="records", lines=True, date_format="iso")
        figures = tmp_path / "figures.json"
        arguments = ["replay", str(log), "--json", str(figures), "--html", str(tmp_path / "page.html"), *options]
        done = CliRunner().invoke(cli, arguments, env={"FORESHARD_DATA_DIR": str(tmp_path)})
        if isinstance(done.exception, ForeshardError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(figures.read_text()), done.output

    return run


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_the_json_has_the_log_the_layout_and_every_figure_of_each_policy(replayed, suffix):
    document, output = replayed(records(), "--partitions", "2", "--days", "1", suffix=suffix)
    assert set(document) == {"log", "layout", "forecaster", "capacity", "policies"}
    assert set(document["policies"]) == POLICIES
    assert all(set(figures) == FIGURES for figures in document["policies"].values())
    assert all(policy in output for policy in POLICIES)


def test_unknown_columns_change_nothing(replayed):
    plain, _ = replayed(records(), "--days", "1")
    more, _ = replayed(records().assign(colour="red", partition="p9"), "--days", "1")
    assert more == plain


def test_unsorted_rows_give_the_same_figures(replayed):
    plain, _ = replayed(records(), "--days", "1")
    shuffled, _ = replayed(records().sample(frac=1, random_state=1), "--days", "1")
    assert shuffled == plain


def test_equal_rows_count_as_two_accesses(replayed):
    frame = records()
    document, _ = replayed(pd.concat([frame, frame]), "--days", "1", "--policies", "static_hash")
    assert document["log"]["records"] == 2 * len(frame)


def test_one_key_and_one_partition_are_replayed_with_a_note(replayed):
    document, output = replayed(records(keys=1), "--partitions", "1", "--days", "1")
    assert "one partition: nothing can be moved" in output
    assert all(figures["moves"] == 0 for figures in document["policies"].values())
    assert document["log"]["keys"] == 1


def test_one_key_among_several_partitions_is_replayed(replayed):
    document, _ = replayed(records(keys=1), "--partitions", "3", "--days", "1")
    assert set(document["policies"]) == POLICIES


def test_a_log_shorter_than_the_training_window_is_trained_on_its_first_half_with_a_note(replayed):
    document, output = replayed(records(days=4), "--policies", "predictive")
    assert "the log is short: forecasts use its first half instead of 28 days" in output
    assert document["log"]["replayed_hours"] == 48


def test_a_log_without_users_sessions_locations_and_costs_is_replayed(replayed):
    bare = records()[["timestamp", "partitionable_key", "request_type"]].assign(user_id=None)
    document, output = replayed(bare, "--days", "1")
    assert "the log has no locations: distances are 0" in output
    assert "co-access is 0" in output
    assert all(figures["mean_distance_km"] == 0 for figures in document["policies"].values())


def test_keys_that_appear_and_disappear_are_replayed(replayed):
    frame = records(days=6, keys=6)
    day = frame["timestamp"].dt.day - 2
    number = frame["partitionable_key"].str[1:].astype(int)
    document, _ = replayed(frame[(day - number).abs() <= 2], "--days", "3")
    assert set(document["policies"]) == POLICIES


def test_records_that_cannot_be_counted_are_left_out_and_named(replayed):
    frame = records().astype({"timestamp": str, "cost": object})
    frame.loc[0, "timestamp"] = "yesterday"
    frame.loc[1, "cost"] = "a lot"
    frame.loc[2, "cost"] = -1
    frame.loc[3, "partitionable_key"] = None
    _, output = replayed(frame, "--days", "1", "--policies", "static_hash")
    for reason in ("unparsable_time", "unparsable_cost", "negative_cost", "missing_key"):
        assert f"1 records left out: {reason}" in output


def test_a_log_of_less_than_two_days_is_refused(replayed):
    with pytest.raises(ConfigurationError, match="it covers only 24 hours; use a log of at least 2 days"):
        replayed(records(days=1))


def test_a_log_without_a_required_column_is_refused_and_the_column_named(replayed):
    with pytest.raises(CorruptLog, match="it has no column partitionable_key"):
        replayed(records().drop(columns="partitionable_key"))


def test_a_log_without_records_is_refused(replayed):
    with pytest.raises(CorruptLog, match="it has no valid record"):
        replayed(records().iloc[:0])


@pytest.mark.parametrize(
    ("layout", "error", "says"),
    [
        ('{"partitions": [{"partition_id": "a", "capacity": 0}]}', UnusableCapacity, "capacity"),
        ('{"partitions": [{"partition_id": "a", "capacity": -1}]}', UnusableCapacity, "capacity"),
        ('{"partitions": [{"partition_id": "a"}]}', ConfigurationError, "give partition_id, geographic_location and capacity"),
        ('{"partitions": []}', ConfigurationError, "lists no partitions"),
        ("{", ConfigurationError, "can't be read"),
    ],
)
def test_a_layout_without_usable_capacities_is_refused_in_one_line(replayed, tmp_path, layout, error, says):
    file = tmp_path / "layout.json"
    file.write_text(layout)
    with pytest.raises(error, match=says) as raised:
        replayed(records(), "--layout", str(file), "--days", "1")
    assert "\n" not in str(raised.value)


def test_an_unknown_policy_is_refused_with_the_known_ones(replayed):
    with pytest.raises(ConfigurationError, match="unknown policy psychic; use static_hash"):
        replayed(records(), "--policies", "psychic")


def test_the_least_capacity_and_what_it_saves_are_reported(replayed):
    policies = ("--policies", "static_hash,reactive,predictive")
    document, output = replayed(records(days=4, keys=9), "--partitions", "3", "--days", "2", "--processes", "2", *policies)
    capacity = document["capacity"]
    assert set(capacity["least"]) == {"static_hash", "reactive", "predictive"}
    for name, least in capacity["least"].items():
        assert document["policies"][name]["least_capacity"] == least["factor"]
        assert least["utilisation"] == pytest.approx(0.7 / least["factor"], rel=0.01)
        factor, shares = least["factor"], []
        for times in (0.985, 1.015):
            share = str(0.7 / factor / times)
            again, _ = replayed(
                records(days=4, keys=9), "--partitions", "3", "--days", "2", "--utilisation", share, "--no-capacity", *policies
            )
            shares.append(again["policies"][name]["overflow_share"])
        assert shares[0] > 0.001 >= shares[1]
    saved = 1 - capacity["least"]["predictive"]["factor"] / capacity["least"]["static_hash"]["factor"]
    assert capacity["saved_against"]["static_hash"] == pytest.approx(saved, abs=1e-3)
    assert "of capacity against hashing, " in output
    assert "against reacting, at an overflow share of 0.1% (each ±1%)" in output


def test_the_least_capacity_can_be_left_out(replayed):
    document, output = replayed(records(), "--days", "1", "--no-capacity", "--policies", "static_hash,predictive")
    assert document["capacity"]["least"] == {}
    assert document["policies"]["predictive"]["least_capacity"] is None
    assert "capacity against" not in output


def test_the_table_fits_a_terminal(replayed):
    _, output = replayed(records(), "--days", "1", "--no-capacity")
    table = output[output.index("policy ") :].split("wrote")[0]
    assert "overload hours  overflow  moves  twice a day" in table
    assert max(map(len, table.splitlines())) <= 100


def test_an_hourly_table_is_replayed_by_the_hour_and_says_so(replayed):
    frame = records()
    frame["timestamp"] = frame["timestamp"].dt.floor("h")
    document, output = replayed(frame, "--days", "1", "--no-capacity", "--policies", "static_hash,reactive")
    assert document["log"]["step_minutes"] == 60
    assert "the log has no times within the hour: loads are served by the hour" in output


def test_steps_can_be_asked_for(replayed):
    document, output = replayed(records(), "--days", "1", "--no-capacity", "--steps", "--policies", "static_hash,reactive")
    assert document["log"]["step_minutes"] == 5
    assert "loads are served in steps of 5 minutes" in output


def test_the_replay_says_which_engine_it_forecasts_with(replayed):
    options = ("--policies", "predictive", "--no-capacity")
    figures, output = replayed(records(), *options)
    assert figures["forecaster"] == "blended"
    assert "forecasts with the engine blended" in output
    figures, output = replayed(records(), *options, "--forecaster", "seasonal")
    assert figures["forecaster"] == "seasonal"
    with pytest.raises(UnknownEngine):
        replayed(records(), *options, "--forecaster", "crystal-ball")
