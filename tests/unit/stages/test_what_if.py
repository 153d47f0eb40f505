"""What-if replays: the changes they accept, and the errors for bad input."""

import json

import pandas as pd
import pytest

from foreshard.errors import ConfigurationError, CorruptLog, UnusableCapacity
from foreshard.model import Location, Partition, PartitionState
from foreshard.settings import Settings
from foreshard.stages.experiments.what_if import changed, replay_name, what_if
from foreshard.wiring import Wiring


class Registered:
    """A registry in memory."""

    def __init__(self, *partitions):
        self._partitions = partitions

    def partitions(self):
        return self._partitions

    def locations(self):
        return (Location("Oslo", 59.9, 10.7),)


@pytest.fixture
def wiring(tmp_path):
    return Wiring(Settings.load(data_dir=tmp_path / "data"))


@pytest.fixture
def log(tmp_path):
    """Four days of three keys."""
    times = pd.date_range("2026-03-02", periods=96, freq="h", tz="UTC")
    frame = pd.DataFrame([(time, key, "read", "u", "Oslo") for time in times for key in "abc"])
    frame.columns = ["timestamp", "partitionable_key", "request_type", "user_id", "location"]
    path = tmp_path / "small.csv"
    frame.to_csv(path, index=False)
    return str(path)


def test_the_summary_has_the_paths_and_the_figures_of_each_policy(wiring, log):
    done = what_if(wiring, log, "run 1", {"days": 1, "partitions": 2, "policies": ["static_hash", "reactive"]})
    assert (done.name, set(done.overload_hours)) == ("run-1", {"static_hash", "reactive"})
    assert done.page.is_file()
    assert json.loads(done.figures.read_text())["log"]["replayed_hours"] == 24


def test_a_second_run_replaces_the_page(wiring, log):
    for partitions in (2, 3):
        done = what_if(wiring, log, "run", {"days": 1, "partitions": partitions, "policies": ["static_hash"]})
    assert len(json.loads(done.figures.read_text())["layout"]["partitions"]) == 3
    assert len(list(done.page.parent.parent.iterdir())) == 1


def test_the_current_layout_has_all_registered_partitions_with_their_states(wiring, log):
    wiring.__dict__["registry"] = Registered(
        Partition("p1", "Oslo", 0.5), Partition("p2", "Oslo", 0.25, state=PartitionState.DRAINING)
    )
    done = what_if(wiring, log, "run", {"layout": "current", "days": 1, "policies": ["static_hash"]})
    assert json.loads((done.page.parent / "layout.json").read_text())["partitions"][1]["state"] == "draining"
    figures = json.loads(done.figures.read_text())
    assert [p["capacity"] for p in figures["layout"]["partitions"]] == [0.5, 0.25]


def test_settings_are_changed_only_for_the_replay(wiring):
    other = changed(wiring.settings, {"high_water": 0.6, "churn": 2.0, "reserve": 0.0, "horizon_hours": 12})
    assert (other.plan.high_water, other.plan.churn, other.plan.reserve) == (0.6, 2.0, 0.0)
    assert other.forecast.horizon_hours == 12
    assert wiring.settings.plan.high_water == Settings.load().plan.high_water


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"nearness": -1}, ConfigurationError, "nearness"),
        ({"high_water": -1}, ConfigurationError, "high_water"),
        ({"reserve": 1.0}, ConfigurationError, "reserve"),
        ({"horizon_hours": 0}, ConfigurationError, "horizon_hours"),
        ({"colour": "red"}, ConfigurationError, "unknown 'colour'"),
        ({"policies": ["psychic"]}, ConfigurationError, "unknown policy psychic"),
        ({"partitions": 0}, ConfigurationError, "0 is less than one"),
        ({"utilisation": 0.0}, ConfigurationError, "not above 0"),
        ({"layout": "/none/layout.json"}, ConfigurationError, "can't be read"),
    ],
)
def test_invalid_changes_are_refused_in_one_line(wiring, log, changes, error, says):
    with pytest.raises(error, match=says) as raised:
        what_if(wiring, log, "run", {"days": 1, **changes})
    assert "\n" not in str(raised.value)


def test_the_current_layout_needs_a_registered_partition(wiring, log):
    wiring.__dict__["registry"] = Registered()
    with pytest.raises(ConfigurationError, match="no partition is registered"):
        what_if(wiring, log, "run", {"layout": "current"})


def test_a_registered_partition_without_capacity_is_named(wiring, log):
    wiring.__dict__["registry"] = Registered(Partition("p1", "Oslo", 0.0))
    with pytest.raises(UnusableCapacity, match="p1"):
        what_if(wiring, log, "run", {"layout": "current"})


def test_a_missing_log_is_named(wiring):
    with pytest.raises(CorruptLog, match="no such file"):
        what_if(wiring, "/none.parquet", "run", {})


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "a/b", "manual__2026-03-01T08:00:00+00:00", "ü"])
def test_a_replay_s_name_is_one_folder_and_cannot_leave_its_parent(name):
    safe = replay_name(name)
    assert safe
    assert "/" not in safe
    assert not safe.startswith(".")
