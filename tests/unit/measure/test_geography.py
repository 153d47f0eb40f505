"""Distances between locations: great circles, measured round trips, and the planner's matrices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.measure.distance import EARTH_RADIUS_KM, Distances, great_circle_km
from foreshard.measure.geography import distance_matrix, fill_unknown
from foreshard.model import Location

SAN_FRANCISCO = Location("San Francisco", 37.7749, -122.4194)
NEW_YORK = Location("New York", 40.7128, -74.0060)
SYDNEY = Location("Sydney", -33.8688, 151.2093)
PLACES = {place.name: place for place in (SAN_FRANCISCO, NEW_YORK, SYDNEY)}

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


def test_known_city_distances_are_correct_within_half_a_percent():
    assert great_circle_km(SAN_FRANCISCO, NEW_YORK) == pytest.approx(4129, rel=0.005)
    assert great_circle_km(SAN_FRANCISCO, SYDNEY) == pytest.approx(11935, rel=0.005)


def test_antipodes_are_half_the_circumference_apart():
    assert great_circle_km(Location("a", 0, 0), Location("b", 0, 180)) == pytest.approx(np.pi * EARTH_RADIUS_KM)


@settings(max_examples=100)
@given(latitudes, longitudes, latitudes, longitudes)
def test_distance_is_symmetric_and_never_beyond_half_the_circumference(lat_a, lon_a, lat_b, lon_b):
    a, b = Location("a", lat_a, lon_a), Location("b", lat_b, lon_b)
    there, back = great_circle_km(a, b), great_circle_km(b, a)
    assert there == pytest.approx(back, abs=1e-6)
    assert 0.0 <= there <= np.pi * EARTH_RADIUS_KM + 1e-6


def test_the_matrix_has_a_row_per_origin_and_a_column_per_destination():
    matrix = distance_matrix(["San Francisco", "Sydney"], ["New York", "Sydney", "San Francisco"], PLACES)
    assert matrix.shape == (2, 3)
    assert matrix[0, 2] == 0.0
    assert matrix[1, 1] == 0.0
    assert matrix[0, 0] == pytest.approx(great_circle_km(SAN_FRANCISCO, NEW_YORK))


def test_an_unknown_location_is_at_distance_nan_except_from_itself():
    matrix = distance_matrix(["Atlantis", None], ["Atlantis", "Sydney"], PLACES)
    assert matrix[0, 0] == 0.0
    assert np.isnan(matrix[0, 1])
    assert np.isnan(matrix[1]).all()


def test_an_unknown_origin_is_equally_far_from_every_destination():
    filled = fill_unknown(distance_matrix([None, "Atlantis"], ["New York", "Sydney"], PLACES))
    assert (filled == 0.0).all()


def test_an_unknown_destination_is_farther_than_every_known_one():
    filled = fill_unknown(distance_matrix(["San Francisco"], ["New York", "Atlantis", "Sydney"], PLACES))
    assert filled[0, 1] > filled[0].take([0, 2]).max()


def test_with_measured_round_trips_the_planner_orders_copies_like_the_sidecar():
    trips = {"San Francisco": (("New York", 140.0), ("Sydney", 60.0)), "New York": (("Sydney", 90.0), ("New York", 0.4))}
    places = {name: replace(place, round_trips=trips.get(name, ())) for name, place in PLACES.items()}
    distances, names = Distances(places.values()), list(places)
    matrix = distance_matrix(names, names, places)
    for row, origin in enumerate(names):
        sidecar = sorted(names, key=lambda name: distances.round_trip(origin, name).ms)
        assert [names[column] for column in np.argsort(matrix[row], kind="stable")] == sidecar
    assert matrix[0, 2] < matrix[0, 1]
    assert matrix[0, 1] == pytest.approx(140.0 / 0.015)


def test_a_measured_round_trip_counts_in_both_directions_and_for_places_without_coordinates():
    places = {"San Francisco": replace(SAN_FRANCISCO, round_trips=(("Atlantis", 30.0),))}
    matrix = distance_matrix(["San Francisco", "Atlantis"], ["Atlantis", "San Francisco"], places)
    assert matrix == pytest.approx(np.array([[2000.0, 0.0], [0.0, 2000.0]]))


def test_empty_sides_give_empty_matrices():
    assert distance_matrix([], ["Sydney"], PLACES).shape == (0, 1)
    assert fill_unknown(distance_matrix(["Sydney"], [], PLACES)).shape == (1, 0)
