import numpy as np
import pytest

from foreshard.errors import ConfigurationError, UnusableCapacity
from foreshard.lab.partition_layout import UNKNOWN_KM, equal_layout, parse_layout
from foreshard.model import Location


def test_equal_partitions_have_the_given_utilisation_at_the_median_daily_peak(make_log):
    costs = np.ones((2, 72))
    costs[0, 10], costs[0, 30], costs[1, 60] = 99, 49, 199
    layout = equal_layout(make_log(costs), 0, 4, 0.5, {})
    assert layout.capacity.sum() * 3600 * 0.5 == pytest.approx(100)
    assert len(set(layout.capacity)) == 1


def test_partitions_are_at_the_logs_locations_in_proportion_and_at_least_at_two(gather, rows_of):
    log = gather(rows_of([(0, "a", 90), (1, "b", 5), (2, "c", 4)], location=["Rome", "Oslo", "Bern"]))
    homes = [p.geographic_location for p in equal_layout(log, 0, 4, 0.7, {}).partitions]
    assert homes == ["Rome", "Rome", "Rome", "Oslo"]
    assert [p.geographic_location for p in equal_layout(log, 0, 1, 0.7, {}).partitions] == ["Rome"]


def test_a_log_without_locations_has_its_partitions_anywhere(make_log):
    layout = equal_layout(make_log([[1, 2]]), 0, 2, 0.7, {})
    assert {p.geographic_location for p in layout.partitions} == {"anywhere"}
    assert layout.distance_from([]).shape == (0, 2)


def test_places_without_coordinates_are_a_fixed_distance_apart(gather, rows_of):
    log = gather(rows_of([(0, "a", 9), (1, "b", 5)], location=["Rome", "Oslo"]))
    known = {"Rome": Location("Rome", 41.9, 12.5)}
    assert equal_layout(log, 0, 2, 0.7, known).distance_from(["Rome", "Oslo"]).tolist() == [[0, UNKNOWN_KM], [UNKNOWN_KM, 0]]


@pytest.mark.parametrize(("partitions", "utilisation"), [(0, 0.7), (-1, 0.7), (2, 0.0), (2, -1), (2, float("nan"))])
def test_impossible_layouts_are_refused(make_log, partitions, utilisation):
    with pytest.raises(ConfigurationError):
        equal_layout(make_log([[1, 2]]), 0, partitions, utilisation, {})


def test_a_layout_file_gives_partitions_and_locations():
    document = {
        "partitions": [{"partition_id": "p", "geographic_location": "Rome", "capacity": 2}],
        "locations": [{"name": "Rome", "latitude": 41.9, "longitude": 12.5}],
    }
    layout = parse_layout(document, "layout.json", {})
    assert layout.capacity.tolist() == [2]
    assert layout.locations["Rome"].longitude == 12.5


@pytest.mark.parametrize("capacity", [0, -1, float("nan"), float("inf")])
def test_a_capacity_that_is_not_above_zero_is_refused(capacity):
    with pytest.raises(UnusableCapacity):
        parse_layout([{"partition_id": "p", "capacity": capacity}], "layout.json", {})


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "p0",
        {"partitions": "p0"},
        [{"capacity": 2}],
        [{"partition_id": "p"}],
        [{"partition_id": "p", "capacity": "much"}],
        [{"partition_id": "p", "capacity": 1}] * 2,
        {"partitions": [{"partition_id": "p", "capacity": 1}], "locations": [{"name": "Rome"}]},
    ],
)
def test_an_invalid_layout_is_refused_in_one_line(document):
    with pytest.raises(ConfigurationError) as caught:
        parse_layout(document, "layout.json", {})
    assert "layout.json" in str(caught.value)
    assert "\n" not in str(caught.value)
