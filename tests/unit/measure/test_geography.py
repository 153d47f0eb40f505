import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.measure.geography import EARTH_RADIUS_KM, distance_km, distance_matrix, fill_unknown, great_circle_km
from foreshard.model import Location

SAN_FRANCISCO = Location("San Francisco", 37.7749, -122.4194)
NEW_YORK = Location("New York", 40.7128, -74.0060)
SYDNEY = Location("Sydney", -33.8688, 151.2093)
PLACES = {place.name: place for place in (SAN_FRANCISCO, NEW_YORK, SYDNEY)}

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


def test_known_city_distances_are_met_within_half_a_percent():
    assert distance_km(SAN_FRANCISCO, NEW_YORK) == pytest.approx(4129, rel=0.005)
    assert distance_km(SAN_FRANCISCO, SYDNEY) == pytest.approx(11935, rel=0.005)


def test_antipodes_are_half_the_circumference_apart():
    assert float(great_circle_km(0, 0, 0, 180)) == pytest.approx(np.pi * EARTH_RADIUS_KM)


@settings(max_examples=100)
@given(latitudes, longitudes, latitudes, longitudes)
def test_distance_is_symmetric_and_never_beyond_half_the_circumference(lat_a, lon_a, lat_b, lon_b):
    there = float(great_circle_km(lat_a, lon_a, lat_b, lon_b))
    back = float(great_circle_km(lat_b, lon_b, lat_a, lon_a))
    assert there == pytest.approx(back, abs=1e-6)
    assert 0.0 <= there <= np.pi * EARTH_RADIUS_KM + 1e-6


def test_the_matrix_has_a_row_per_origin_and_a_column_per_destination():
    matrix = distance_matrix(["San Francisco", "Sydney"], ["New York", "Sydney", "San Francisco"], PLACES)
    assert matrix.shape == (2, 3)
    assert matrix[0, 2] == 0.0
    assert matrix[1, 1] == 0.0
    assert matrix[0, 0] == pytest.approx(distance_km(SAN_FRANCISCO, NEW_YORK))


def test_an_unknown_location_is_nan_but_at_home_with_itself():
    matrix = distance_matrix(["Atlantis", None], ["Atlantis", "Sydney"], PLACES)
    assert matrix[0, 0] == 0.0
    assert np.isnan(matrix[0, 1])
    assert np.isnan(matrix[1]).all()


def test_an_unknown_origin_prefers_no_destination():
    filled = fill_unknown(distance_matrix([None, "Atlantis"], ["New York", "Sydney"], PLACES))
    assert (filled == 0.0).all()


def test_an_unknown_destination_is_farther_than_every_known_one():
    filled = fill_unknown(distance_matrix(["San Francisco"], ["New York", "Atlantis", "Sydney"], PLACES))
    assert filled[0, 1] > filled[0].take([0, 2]).max()


def test_empty_sides_give_empty_matrices():
    assert distance_matrix([], ["Sydney"], PLACES).shape == (0, 1)
    assert fill_unknown(distance_matrix(["Sydney"], [], PLACES)).shape == (1, 0)
