"""Keys above the floor are units, all others are summed into their slots, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.observe.units import FINE_SLOT, UnitRule, by_unit, fine_slots, key_costs

SPACE = KeySpace(slots=8)
KEYS = [f"key {n}" for n in range(30)]
RULE = UnitRule(10.0, 5)

rows_of_an_hour = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from(["west", "east", "unknown"]),
        st.sampled_from(["read", "write"]),
        st.integers(1, 10**9),
        st.integers(0, 10**9).map(lambda quarters: quarters / 4),
    ),
    max_size=60,
).map(lambda rows: pd.DataFrame(rows, columns=["partitionable_key", "location", "request_type", "count", "cost"]))


def peaks(**costs: float) -> pd.Series:
    return pd.Series(costs, dtype=float)


@given(rows_of_an_hour, st.sets(st.sampled_from(KEYS)), st.booleans(), st.booleans())
def test_sums_by_unit_lose_nothing_and_count_nothing_twice(
    rows: pd.DataFrame, named: set[str], categorical: bool, hashed: bool
) -> None:
    given_rows = rows.copy()
    if hashed:
        given_rows[FINE_SLOT] = fine_slots(rows["partitionable_key"], SPACE)
    if categorical:
        given_rows = given_rows.astype(dict.fromkeys(["partitionable_key", "location", "request_type"], "category"))
    summed = by_unit(given_rows, named, SPACE).frame()
    for group in (["location", "request_type"], ["location"], []):
        for figure in ("count", "cost"):
            before = rows.groupby(group)[figure].sum() if group else rows[figure].sum()
            after = summed.groupby(group)[figure].sum() if group else summed[figure].sum()
            assert np.array_equal(np.asarray(before), np.asarray(after))
    unit = rows["partitionable_key"].map(lambda key: key if key in named else slot_unit(SPACE.slot_of(key)))
    wanted = rows.assign(partitionable_key=unit).groupby(["partitionable_key", "location", "request_type"]).sum()
    assert summed.set_index(["partitionable_key", "location", "request_type"]).to_dict() == wanted.to_dict()
    assert not summed.duplicated(["partitionable_key", "location", "request_type"]).any()


@given(st.sampled_from(KEYS), st.sampled_from([2, 8, 4096, 65_536]))
def test_a_fine_slot_gives_the_slot_of_any_number_of_slots(key: str, slots: int) -> None:
    rows = pd.DataFrame({"partitionable_key": [key], "location": "x", "request_type": "read", "count": 1, "cost": 1.0})
    space = KeySpace(slots=slots)
    (unit,) = by_unit(rows.assign(**{FINE_SLOT: fine_slots([key], space)}), (), space).units
    assert slot_number(unit) == space.slot_of(key)


def test_a_key_becomes_a_unit_at_the_floor_and_stays_one_down_to_half_of_it() -> None:
    hot = peaks(at=10.0, below=9.9)
    assert RULE.choose(hot, (), ()) == ("at",)
    assert RULE.choose(peaks(at=5.0, below=4.9), ("at", "below"), ()) == ("at",)


def test_listed_keys_are_always_units() -> None:
    assert RULE.choose(peaks(a=0.0, b=50.0), (), ("a", "idle")) == ("a", "b", "idle")


@given(st.dictionaries(st.sampled_from(KEYS), st.floats(0, 100), max_size=30), st.sets(st.sampled_from(KEYS)))
def test_the_units_are_the_hottest_keys_and_at_most_so_many(costs: dict[str, float], standing: set[str]) -> None:
    chosen = RULE.choose(pd.Series(costs, dtype=float), standing, ("listed",))
    assert "listed" in chosen
    named = set(chosen) - {"listed"}
    assert len(named) <= RULE.most
    level = {key: cost * (2 if key in standing else 1) for key, cost in costs.items()}
    assert all(level[key] >= RULE.floor for key in named)
    left_out = [level[key] for key in costs if key not in named and level[key] >= RULE.floor]
    assert not left_out or (len(named) == RULE.most and max(left_out) <= min(level[key] for key in named))


def test_without_a_floor_every_key_is_a_unit() -> None:
    assert UnitRule(0.0, 100).choose(peaks(a=0.0, b=1.0), (), ()) == ("a", "b")


@pytest.mark.parametrize("categorical", [False, True])
def test_the_cost_of_each_key_is_summed(categorical: bool) -> None:
    rows = pd.DataFrame({"partitionable_key": ["a", "b", "a"], "cost": [1.0, 2.0, 4.0]})
    assert key_costs(rows.astype({"partitionable_key": "category"}) if categorical else rows).to_dict() == {"a": 5.0, "b": 2.0}
