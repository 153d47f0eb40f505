import numpy as np
import pandas as pd
import pytest

from foreshard.model import KEY_LOAD_COLUMNS, RequestKind
from foreshard.plan.input.profile import profile_keys

KINDS = {"read": RequestKind.READ, "write": RequestKind.WRITE}


def day(*rows):
    """Rows (key, location, request type, count, cost)."""
    frame = pd.DataFrame(
        [(pd.Timestamp("2024-03-05", tz="UTC"), *row, 1) for row in rows],
        columns=list(KEY_LOAD_COLUMNS),
    )
    return frame.astype({"count": "int64", "cost": "float64"})


def test_read_share_and_access_cost_are_weighed_over_all_days():
    days = [day(("a", "x", "read", 6, 6.0)), day(("a", "x", "write", 1, 2.0), ("b", "x", "write", 2, 4.0))]
    profiles = profile_keys(pd.concat(days), ["a", "b"], KINDS)
    assert profiles.read_share.tolist() == [0.75, 0.0]
    assert profiles.access_cost.tolist() == pytest.approx([8 / 7, 2.0])


def test_origins_are_those_of_the_reads():
    rows = day(("a", "x", "read", 1, 1.0), ("a", "y", "read", 3, 3.0), ("a", "z", "write", 9, 18.0))
    profiles = profile_keys(rows, ["a"], KINDS)
    places, shares = profiles.origins.of(0)
    assert {profiles.locations[p]: s for p, s in zip(places, shares, strict=True)} == {"x": 0.25, "y": 0.75}


def test_a_key_that_is_only_written_has_the_origins_of_its_writes():
    profiles = profile_keys(day(("a", "x", "write", 1, 2.0)), ["a"], KINDS)
    places, shares = profiles.origins.of(0)
    assert ([profiles.locations[p] for p in places], shares.tolist()) == (["x"], [1.0])


def test_missing_locations_and_unknown_request_types_are_accepted():
    profiles = profile_keys(day(("a", None, "read", 1, 1.0), ("a", np.nan, "teleport", 1, 1.0)), ["a"], KINDS)
    assert profiles.read_share.tolist() == [0.5]
    assert profiles.origins.of(0)[0].size == 0


def test_other_keys_are_ignored_and_unseen_keys_are_zero():
    profiles = profile_keys(day(("other", "x", "read", 5, 5.0)), ["a"], KINDS)
    assert profiles.read_share.tolist() == [0.0]
    assert profiles.access_cost.tolist() == [0.0]


def test_no_history_at_all_gives_empty_profiles():
    assert profile_keys(day(), ["a", "b"], KINDS).read_share.tolist() == [0.0, 0.0]
    assert profile_keys(day(), [], KINDS).access_cost.shape == (0,)


def test_unregistered_locations_count_as_missing():
    rows = day(("a", "x", "read", 1, 1.0), ("a", "atlantis", "read", 3, 3.0))
    profiles = profile_keys(rows, ["a"], KINDS, places={"x", "y"})
    places, shares = profiles.origins.of(0)
    assert ([profiles.locations[p] for p in places], shares.tolist()) == (["x"], [1.0])
