"""Partition Metadata, locations and current loads in a real MongoDB."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from foreshard.errors import (
    ConfigurationError,
    DuplicatePartition,
    ForeshardError,
    UnknownLocation,
    UnknownPartition,
    UnusableCapacity,
)
from foreshard.model import Location, Partition, PartitionLoad, PartitionState
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.registry import MongoPartitionRegistry

SF, SJ = Location("San Francisco", 37.789, -122.401), Location("San Jose", 37.336, -121.890)
ALPHA = Partition("alpha", "San Francisco", 10.0, "mongodb://127.0.0.1:1")
BETA = Partition("beta", "San Jose", 20.0, "mongodb://127.0.0.1:2")


@pytest.fixture
def registry(control, unique_name) -> MongoPartitionRegistry:
    return MongoPartitionRegistry(control[unique_name])


def test_registered_partitions_and_locations_are_read_back(registry):
    registry.register([BETA, ALPHA], [SF, SJ])
    assert registry.partitions() == (ALPHA, BETA)
    assert registry.locations() == (SF, SJ)
    assert registry.partition("beta") == BETA


def test_registering_again_replaces_the_metadata_and_keeps_loads_and_state(registry, control, unique_name):
    registry.register([ALPHA], [SF])
    registry.set_predicted_load({"alpha": 7.5, "nobody": 1.0})
    registry.set_state("alpha", PartitionState.DRAINING)
    MongoLoadStore(control[unique_name]).report([PartitionLoad("alpha", 3.0, True, datetime(2025, 1, 1, tzinfo=UTC))])
    registry.register([Partition("alpha", "San Francisco", 12.0, "mongodb://127.0.0.1:9")], [])
    expected = Partition("alpha", "San Francisco", 12.0, "mongodb://127.0.0.1:9", 3.0, 7.5, PartitionState.DRAINING)
    assert registry.partitions() == (expected,)


def test_an_unknown_partition_is_named_with_the_known_ones(registry):
    registry.register([ALPHA, BETA], [SF, SJ])
    with pytest.raises(UnknownPartition, match="unknown partition 'gamma'; known: alpha, beta"):
        registry.partition("gamma")
    with pytest.raises(UnknownPartition):
        registry.set_state("gamma", PartitionState.DRAINING)


@pytest.mark.parametrize(
    ("partitions", "error"),
    [
        ([ALPHA, ALPHA], DuplicatePartition),
        ([ALPHA, Partition("zero", "San Francisco", 0.0)], UnusableCapacity),
        ([ALPHA, Partition("negative", "San Francisco", -1.0)], UnusableCapacity),
        ([ALPHA, Partition("endless", "San Francisco", float("inf"))], UnusableCapacity),
        ([ALPHA, Partition("unknown", "San Francisco", float("nan"))], UnusableCapacity),
        ([ALPHA, Partition("lost", "Atlantis", 1.0)], UnknownLocation),
    ],
)
def test_a_registration_that_makes_no_sense_registers_nothing(registry, partitions, error):
    with pytest.raises(error) as raised:
        registry.register(partitions, [SF])
    assert isinstance(raised.value, ForeshardError)
    assert "\n" not in str(raised.value)
    assert registry.partitions() == ()
    assert registry.locations() == ()


def test_a_report_replaces_the_last_one_and_updates_current_load(registry, control, unique_name):
    registry.register([ALPHA, BETA], [SF, SJ])
    loads = MongoLoadStore(control[unique_name])
    assert loads.current() == ()
    now = datetime(2025, 1, 1, tzinfo=UTC)
    loads.report([PartitionLoad("beta", 2.0, True, now), PartitionLoad("alpha", 1.0, True, now)])
    dead = PartitionLoad("alpha", 0.0, False, now.replace(hour=1))
    loads.report([dead])
    loads.report([])
    assert loads.current() == (dead, PartitionLoad("beta", 2.0, True, now))
    assert [p.current_load for p in registry.partitions()] == [1.0, 2.0]


def test_measured_round_trips_stay_with_their_location_until_they_are_measured_again(registry):
    at = datetime(2025, 1, 1, tzinfo=UTC)
    registry.register([], [Location("sf", 37.8, -122.4), Location("ny", 40.7, -74.0)])
    registry.save_round_trips("sf", {"ny": 70.5, "sf": 0.3}, at)
    registry.save_round_trips("sf", {"ny": 71.0}, at)
    registry.register([], [Location("sf", 37.9, -122.4)])
    found = {place.name: place for place in registry.locations()}
    assert (found["sf"].latitude, dict(found["sf"].round_trips)) == (37.9, {"ny": 71.0, "sf": 0.3})
    assert found["ny"].round_trips == ()
    with pytest.raises(ConfigurationError, match="Atlantis"):
        registry.save_round_trips("Atlantis", {"ny": 1.0}, at)


def test_credentials_that_were_registered_earlier_are_warned_of_once_without_showing_them(registry, caplog):
    name = f"old-{time.time_ns()}"
    registry.register([Partition(name, "here", 1.0, "mongodb://me:pa55word@host:1/")], [Location("here", 0, 0)])
    for _ in range(3):
        registry.partitions()
        registry.partition(name)
    warned = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(warned) == 1
    assert "foreshard partitions apply" in warned[0]
    assert "pa55word" not in caplog.text
