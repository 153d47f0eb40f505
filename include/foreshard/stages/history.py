"""The history that forecasts, scores and plans are made from, by unit.

The forecast stage rolls it once per hour and saves it as series and totals; scoring and planning read those. Rolling reads the
new hour, the hours that leave, and the slots from which keys have grown. All hours are read only if there is nothing to roll:
no saved history, or one that was made from tallies that have changed since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from foreshard.errors import MissingStageResult
from foreshard.forecast.series import first_hour
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, ONE_HOUR, FloatArray, SeriesMatrix
from foreshard.model.key_space import MOST_SLOTS, slot_number, slot_unit
from foreshard.observe.hours import hours_between
from foreshard.observe.unit_history import UnitHistory
from foreshard.observe.units import FINE_SLOT, key_costs
from foreshard.plan.input.key_history import KeyHistory, busiest_series, gather_history
from foreshard.ports.stages import SeriesBasis
from foreshard.stages._ports import WithForecastSettings, WithPlacementRules, WithSeries, WithTallies
from foreshard.stages.units import UnitPorts, current_space, listed_keys, unit_rule

if TYPE_CHECKING:
    from foreshard.model import HourCounts
    from foreshard.model.key_space import KeySpace
    from foreshard.observe.units import UnitRule

SPLIT_SLOTS = 64
"""Keys grow out of at most this many slots in one hour, the hottest first, because each slot's history is read again."""


class HistoryPorts(UnitPorts, WithPlacementRules, WithForecastSettings, WithTallies, WithSeries, Protocol):
    """Reads tallies and saved series, partitions, the routing table and placement rules."""


@dataclass(frozen=True)
class UnitSeries:
    """An hour's history: series and totals by unit, and what they were made from."""

    series: SeriesMatrix
    totals: pd.DataFrame
    basis: SeriesBasis


def build_history(ports: HistoryPorts, hour: datetime) -> UnitSeries:
    """Return the history that ends with ``hour``: the newest saved one, rolled, or the sum of all tallies."""
    task = _Task.of(ports, hour)
    history = task.rolled()
    if history is None:
        history = task.summed()
    counted = np.array([moment in task.counted for moment in task.window], np.bool_)
    basis = SeriesBasis(task.revisions(task.window), task.space.slots)
    return UnitSeries(history.series(counted), history.totals(), basis)


def load_history(ports: HistoryPorts, hour: datetime, units: Sequence[str]) -> KeyHistory:
    """Load the history of ``units`` as the forecast stage saved it, or from the tallies if its files are deleted."""
    try:
        return gather_history(units, ports.series.load_totals(hour), ports.series.load(hour))
    except MissingStageResult:
        built = build_history(ports, hour)
        history = gather_history(units, built.totals, [built.series])
    try:
        return replace(history, busiest=busiest_series(ports.series.load(hour)))
    except MissingStageResult:
        return replace(history, busiest=busiest_series(()))


def unit_costs(ports: HistoryPorts, hour: datetime, units: Collection[str], hours: Sequence[datetime]) -> dict[str, FloatArray]:
    """Return the cost of each unit with load in ``hours``, as if ``units`` had been the units then.

    The costs come from the saved series of ``hour``. Where these do not cover all ``hours``, or a slot is divided differently,
    they are summed from the tallies. A unit that is not among ``units`` is a slot with other keys.
    """
    space, named = current_space(ports), {unit for unit in units if slot_number(unit) is None}
    series = _saved_series(ports, hour)
    first = len(series.counted) - 1 - (hour - hours[0]) // ONE_HOUR
    split: set[int] | None = None
    costs: dict[str, FloatArray] = {}
    if first >= 0:
        split = {space.slot_of(key) for key in named ^ {unit for unit in series.keys if slot_number(unit) is None}}
        here = series.costs[:, first : first + len(hours)].astype(np.float64)
        loaded = np.asarray(here.any(axis=1))
        costs = {
            unit: row
            for unit, row, any_load in zip(series.keys, here, loaded, strict=True)
            if any_load and not (split and _slot(unit, space) in split)
        }
    if split is None or split:
        summed = UnitHistory(hours[-1], len(hours), space)
        for moment in hours:
            summed.add(moment, rows_of_slots(ports, moment, split, space), named)
        found = summed.series(np.ones(len(hours), np.bool_))
        costs |= dict(zip(found.keys, found.costs.astype(np.float64), strict=True))
    return costs


def rows_of_slots(ports: WithTallies, hour: datetime, slots: Collection[int] | None, space: KeySpace) -> pd.DataFrame:
    """Return the rows of an hour's tally whose keys are in ``slots``; None: all rows."""
    if slots is None:
        return ports.tallies.hour_load(hour)
    width = MOST_SLOTS // space.slots
    fine = [number for slot in slots for number in range(slot * width, (slot + 1) * width)]
    rows = ports.tallies.hour_load(hour, fine)
    return rows[np.isin(rows[FINE_SLOT].to_numpy() // width, list(slots))]


def _saved_series(ports: WithSeries, hour: datetime) -> SeriesMatrix:
    """Return all chunks as one; a matrix without hours if none are saved."""
    try:
        chunks = list(ports.series.load(hour))
    except MissingStageResult:
        chunks = []
    return _joined(hour, chunks, 0)


def _slot(unit: str, space: KeySpace) -> int:
    slot = slot_number(unit)
    return space.slot_of(unit) if slot is None else slot


@dataclass(frozen=True)
class _Task:
    """What building one hour's history needs. ``counted`` has every counted hour since the start of the saved history."""

    ports: HistoryPorts
    hour: datetime
    window: tuple[datetime, ...]
    counted: Mapping[datetime, HourCounts]
    rule: UnitRule
    listed: frozenset[str]
    space: KeySpace
    placement_rules: PlacementRules

    @classmethod
    def of(cls, ports: HistoryPorts, hour: datetime) -> _Task:
        length = ports.forecast_settings.history_days * HOURS_PER_DAY
        window = hours_between(first_hour(hour, length), hour + ONE_HOUR)
        known = ports.tallies.counts(hours_between(window[0] - length * ONE_HOUR, hour + ONE_HOUR))
        counted = {found.hour: found for found in known}
        rule = unit_rule(ports, [found for found in known if found.hour >= window[0]])
        rules = PlacementRules(ports.placement_rules.rules())
        return cls(ports, hour, window, counted, rule, listed_keys(ports), current_space(ports), rules)

    def revisions(self, hours: Iterable[datetime]) -> tuple[str, ...]:
        return tuple(self.counted[moment].revision if moment in self.counted else "" for moment in hours)

    def rolled(self) -> UnitHistory | None:
        """Return the newest saved history, rolled to the hour; None if there is none that can be rolled."""
        saved = self._saved()
        if saved is None:
            return None
        history, length = saved, len(self.window)
        before, named = history.hour, history.named
        for moment in hours_between(first_hour(before, length), self.window[0]):
            if moment in self.counted:
                history.remove(self.ports.tallies.hour_load(moment), named)
        fresh = {
            moment: self.ports.tallies.hour_load(moment)
            for moment in hours_between(before + ONE_HOUR, self.hour + ONE_HOUR)
            if moment in self.counted
        }
        history.advance(self.hour)
        chosen = self._chosen(history, fresh.values())
        grown = chosen - named
        history.fold(named - chosen)
        split = self._split_slots(history, grown)
        if split is None:
            return None
        chosen -= {key for key in grown if self._waits(history, key, split)}
        self._split(history, split, chosen, before)
        for moment, rows in fresh.items():
            history.add(moment, rows, chosen)
        return history

    def summed(self) -> UnitHistory:
        """Return the sum of all tallies. Without a floor every key is read as a unit, and those beyond the limit are folded."""
        history = UnitHistory(self.hour, len(self.window), self.space)
        counted = [moment for moment in self.window if moment in self.counted]
        chosen = set() if self.rule.floor == 0 else self._hottest(counted[-HOURS_PER_WEEK:])
        for moment in counted:
            rows = self.ports.tallies.hour_load(moment)
            names = set(rows["partitionable_key"].unique()) if self.rule.floor == 0 else chosen
            history.add(moment, rows, names)
        named = history.named
        history.fold(named - set(self.rule.choose(history.peaks(len(self.window)), (), self._always(named))))
        return history

    def _saved(self) -> UnitHistory | None:
        """Return the newest saved history, if it was made from the tallies and the slots as they are now."""
        series = self.ports.series
        saved = series.latest(self.window[0], self.hour)
        basis = None if saved is None else series.basis(saved)
        if saved is None or basis is None or basis.slots != self.space.slots or len(basis.revisions) != len(self.window):
            return None
        if basis.revisions != self.revisions(hours_between(first_hour(saved, len(self.window)), saved + ONE_HOUR)):
            return None
        try:
            chunks, totals = list(series.load(saved)), series.load_totals(saved)
        except MissingStageResult:
            return None
        return UnitHistory.of(_joined(saved, chunks, len(self.window)), totals, self.space)

    def _chosen(self, history: UnitHistory, fresh: Iterable[pd.DataFrame]) -> set[str]:
        peaks, always = history.peaks(), self._always(history.named)
        for rows in fresh:
            costs = key_costs(rows)
            always |= self._always(costs.index)
            costs = costs[(costs >= self.rule.floor) | costs.index.isin(peaks.index)]
            peaks = pd.concat([peaks, costs]).groupby(level=0).max()
        return set(self.rule.choose(peaks, history.named, always))

    def _hottest(self, hours: Iterable[datetime]) -> set[str]:
        peaks, always = pd.Series(dtype=np.float64), set(self.listed)
        for moment in hours:
            costs = key_costs(self.ports.tallies.hour_load(moment))
            always |= self._always(costs.index)
            peaks = pd.concat([peaks, costs[costs >= self.rule.floor]]).groupby(level=0).max()
        return set(self.rule.choose(peaks, (), always))

    def _always(self, names: Iterable[str]) -> set[str]:
        """Return the listed keys, and those of ``names`` that a placement rule names."""
        return {*self.listed, *self.placement_rules.naming(names)}

    def _split_slots(self, history: UnitHistory, grown: set[str]) -> frozenset[int] | None:
        """Return the slots that are split now. None if listed keys need too many: then all hours are summed again."""
        split = {slot for key in grown & self.listed if history.has(slot_unit(slot := self.space.slot_of(key)))}
        if len(split) > SPLIT_SLOTS:
            return None
        for key in sorted(grown - self.listed):
            slot = self.space.slot_of(key)
            if len(split) < SPLIT_SLOTS and history.has(slot_unit(slot)):
                split.add(slot)
        return frozenset(split)

    def _waits(self, history: UnitHistory, key: str, split: Collection[int]) -> bool:
        slot = self.space.slot_of(key)
        return slot not in split and history.has(slot_unit(slot))

    def _split(self, history: UnitHistory, slots: Collection[int], chosen: Collection[str], until: datetime) -> None:
        """Sum these slots and the keys that have grown out of them again, for the hours up to ``until``."""
        if not slots:
            return
        new = {key for key in set(chosen) - history.named if self.space.slot_of(key) in slots}
        units = {slot_unit(slot) for slot in slots}
        history.forget(units)
        for moment in self.window:
            if moment in self.counted and moment <= until:
                history.add(moment, rows_of_slots(self.ports, moment, slots, self.space), chosen, units | new)


def _joined(hour: datetime, chunks: Sequence[SeriesMatrix], length: int) -> SeriesMatrix:
    if not chunks:
        return SeriesMatrix(hour, (), np.zeros((0, length), np.float32), np.zeros(length, np.bool_))
    keys = tuple(key for chunk in chunks for key in chunk.keys)
    return SeriesMatrix(hour, keys, np.concatenate([chunk.costs for chunk in chunks]), chunks[0].counted)
