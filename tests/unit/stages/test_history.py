"""The history of units, rolled from hour to hour, with every port in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.stages.fakes import HOUR, Ports, Registry, Routing, Series, Tallies

from foreshard.model import KEY_LOAD_COLUMNS, ONE_HOUR, Partition, Placement, PlacementRule, RuleKind
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.observe.units import by_unit
from foreshard.settings import ForecastSettings, ObserveSettings, Settings
from foreshard.stages import history
from foreshard.stages.forecast import prepare_chunks
from foreshard.stages.history import build_history, unit_costs

SPACE = KeySpace(slots=4)
LENGTH = 24
FLOOR = 10.0
KEYS = [f"key {number}" for number in range(8)]
CAPACITY = FLOOR / 0.1 / 3600


@pytest.fixture(autouse=True)
def few_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "current_space", lambda _ports: SPACE)


def ports(load: list[tuple[Any, ...]], few_keys: int = 2, listed: tuple[str, ...] = ()) -> Ports:
    observe = ObserveSettings(floor_share=0.1, maximum_units=5, few_keys=few_keys)
    return Ports(
        Settings(observe=observe, forecast=ForecastSettings(history_days=1)),
        registry=Registry(Partition("alpha", "west", CAPACITY)),
        routing=Routing({key: Placement(key, "alpha") for key in listed}),
        tallies=Tallies(load),
        series=Series(),
        forecasts=Ports(begin=lambda hour, chunks: None),
    )


def rows_of(hour: datetime, costs: dict[str, float]) -> list[tuple[Any, ...]]:
    return [
        (hour, key, "west" if len(key) % 2 else "east", kind, 1, cost / 2, 1)
        for key, cost in costs.items()
        for kind in ("read", "write")
    ]


def sums_of(at: Ports, moment: datetime, named: frozenset[str]) -> dict[str, float]:
    """The costs of an hour's units above zero. They are kept, because every later hour asks for them again."""
    kept = at.__dict__.setdefault("sums", {})
    if (moment, named) not in kept:
        rows = at.tallies.load[at.tallies.load["hour"] == moment]
        sums = by_unit(rows, set(named), SPACE).frame().groupby("partitionable_key")["cost"].sum()
        kept[moment, named] = sums[sums > 0].to_dict()
    return kept[moment, named]


def agrees_with_the_tallies(at: Ports, hour: datetime) -> set[str]:
    """The saved history is what all tallies of its hours sum to by its units. Returns the keys that are units."""
    (series,) = at.series.saved[hour][0] or [None]
    units = () if series is None else series.keys
    named = {unit for unit in units if slot_number(unit) is None}
    load = at.tallies.load
    window = [hour - n * ONE_HOUR for n in reversed(range(LENGTH))]
    rows = load[load["hour"].isin(window)]
    for place, moment in enumerate(window):
        found = {} if series is None else dict(zip(series.keys, series.costs[:, place].tolist(), strict=True))
        assert {unit: cost for unit, cost in found.items() if cost} == pytest.approx(sums_of(at, moment, frozenset(named)))
    totals = at.series.totals[hour].set_index(["partitionable_key", "location", "request_type"])
    expected_totals = by_unit(rows, named, SPACE).frame().set_index(["partitionable_key", "location", "request_type"])
    assert totals["count"].to_dict() == expected_totals["count"].to_dict()
    assert totals["cost"].to_dict() == pytest.approx(expected_totals["cost"].to_dict())
    return named


hourly_costs = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([0.5, 1.0, 4.0, 6.0, 12.0, 40.0]), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | hourly_costs, min_size=4, max_size=40),
    st.sets(st.sampled_from(KEYS), max_size=2),
    st.sets(st.integers(0, 39)),
    st.integers(0, 1),
)
def test_a_rolled_history_is_the_sum_of_the_tallies_whatever_grows_cools_or_is_missing(
    hours: list[dict[str, float] | None], listed: set[str], tallied_again: set[int], split_slots: int
) -> None:
    at = ports([], listed=tuple(listed))
    for number, costs in enumerate(hours):
        hour = HOUR + number * ONE_HOUR
        if costs is None:
            continue
        at.tallies.counted.add(hour)
        new = pd.DataFrame(rows_of(hour, costs), columns=list(KEY_LOAD_COLUMNS))
        at.tallies.load = pd.concat([part for part in (at.tallies.load, new) if len(part)] or [new], ignore_index=True)
        if number in tallied_again:
            at.tallies.revisions[hour - 3 * ONE_HOUR] = number
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(history, "SPLIT_SLOTS", split_slots)
            prepare_chunks(at, hour)
        agrees_with_the_tallies(at, hour)


def test_a_key_grows_out_of_its_slot_with_its_history_and_returns_when_it_cools() -> None:
    quiet = dict.fromkeys(KEYS, 1.0)
    at = ports([row for age in range(1, 30) for row in rows_of(HOUR - age * ONE_HOUR, quiet)] + rows_of(HOUR, quiet))
    prepare_chunks(at, HOUR)
    assert agrees_with_the_tallies(at, HOUR) == set()
    later = {HOUR + n * ONE_HOUR: {**quiet, "key 3": 20.0 if n == 1 else 6.0 if n < 5 else 1.0} for n in range(1, 40)}
    named = []
    for hour, costs in later.items():
        at.tallies.load = pd.concat([at.tallies.load, pd.DataFrame(rows_of(hour, costs), columns=list(KEY_LOAD_COLUMNS))])
        at.tallies.counted.add(hour)
        prepare_chunks(at, hour)
        named.append(agrees_with_the_tallies(at, hour))
    assert named[0] == named[20] == {"key 3"}
    assert named[-1] == set()


def test_an_hour_reads_itself_and_the_hour_that_leaves_and_no_other() -> None:
    rows = [row for age in range(-1, 40) for row in rows_of(HOUR - age * ONE_HOUR, dict.fromkeys(KEYS, 1.0))]
    at = ports(rows)
    prepare_chunks(at, HOUR)
    at.tallies.read.clear()
    prepare_chunks(at, HOUR + ONE_HOUR)
    assert at.tallies.read == [(HOUR - (LENGTH - 1) * ONE_HOUR, True), (HOUR + ONE_HOUR, True)]


def test_a_grown_key_reads_only_its_slot_of_the_older_hours() -> None:
    quiet = dict.fromkeys(KEYS, 1.0)
    rows = [row for age in range(40) for row in rows_of(HOUR - age * ONE_HOUR, quiet)]
    at = ports(rows + rows_of(HOUR + ONE_HOUR, {**quiet, "key 3": 50.0}))
    prepare_chunks(at, HOUR)
    at.tallies.read.clear()
    prepare_chunks(at, HOUR + ONE_HOUR)
    assert [hour for hour, whole in at.tallies.read if whole] == [HOUR - (LENGTH - 1) * ONE_HOUR, HOUR + ONE_HOUR]
    assert len([hour for hour, whole in at.tallies.read if not whole]) == LENGTH - 1


def test_tallies_that_have_changed_are_summed_again() -> None:
    at = ports([row for age in range(-1, 40) for row in rows_of(HOUR - age * ONE_HOUR, dict.fromkeys(KEYS, 1.0))])
    prepare_chunks(at, HOUR)
    at.tallies.revisions[HOUR - 5 * ONE_HOUR] = 2
    at.tallies.read.clear()
    prepare_chunks(at, HOUR + ONE_HOUR)
    assert {hour for hour, _ in at.tallies.read} == {HOUR + (1 - n) * ONE_HOUR for n in range(LENGTH)}


def test_with_few_keys_an_hour_every_key_is_a_unit() -> None:
    at = ports([row for age in range(3) for row in rows_of(HOUR - age * ONE_HOUR, {"a": 0.1, "b": 5.0})])
    assert build_history(at, HOUR).series.keys == ("a", "b")


def test_listed_keys_are_units_with_any_load() -> None:
    at = ports(rows_of(HOUR, dict.fromkeys(KEYS, 1.0)), listed=("key 1", "idle"))
    units = build_history(at, HOUR).series.keys
    assert {unit for unit in units if slot_number(unit) is None} == {"key 1"}
    assert len(units) > 1


def test_the_costs_of_other_units_are_summed_from_the_slots_that_differ() -> None:
    costs = {key: float(number + 1) for number, key in enumerate(KEYS)}
    at = ports([row for age in range(48) for row in rows_of(HOUR - age * ONE_HOUR, costs)], listed=("key 1",))
    prepare_chunks(at, HOUR)
    hours = [HOUR - ONE_HOUR, HOUR]
    units = ["key 2", *(slot_unit(slot) for slot in range(4))]
    at.tallies.read.clear()
    found = unit_costs(at, HOUR, units, hours)
    expected = by_unit(at.tallies.load[at.tallies.load["hour"] == HOUR], {"key 2"}, SPACE).frame()
    assert {unit: row.tolist() for unit, row in found.items()} == {
        unit: [cost, cost] for unit, cost in expected.groupby("partitionable_key")["cost"].sum().items()
    }
    assert at.tallies.read == [(hour, False) for hour in hours]
    earlier = [HOUR - 30 * ONE_HOUR]
    again = unit_costs(at, HOUR, units, earlier)
    assert {unit: row.tolist() for unit, row in again.items()} == {unit: row.tolist()[:1] for unit, row in found.items()}
    assert timedelta(hours=30) == HOUR - earlier[0]
    assert np.isfinite(list(again.values())).all()


def test_keys_that_a_prefix_rule_names_are_units_however_small() -> None:
    at = ports(rows_of(HOUR - ONE_HOUR, dict.fromkeys(KEYS, 1.0)) + rows_of(HOUR, {**dict.fromkeys(KEYS, 1.0), "eu-1": 1.0}))
    rule = PlacementRule(RuleKind.RESIDENCY, "eu-", is_prefix=True, locations=("west",))
    at.placement_rules.rules = lambda: (rule,)
    prepare_chunks(at, HOUR)
    assert agrees_with_the_tallies(at, HOUR) == {"eu-1"}
