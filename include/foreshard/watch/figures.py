"""Turns the state of the control database into Prometheus figures: names, help, labels and values. Pure.

Labels are partitions, states and gates, never keys or users. Moments are exported as seconds since 1970
(``…_timestamp_seconds``), so that their age also grows between two scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from foreshard.model.move_state import MoveState
from foreshard.model.shadow_state import ShadowState
from foreshard.watch.state import (
    AccuracyStatus,
    ControlState,
    ForecastStatus,
    GateStatus,
    LoopStatus,
    MoveStatus,
    PartitionStatus,
    PlanStatus,
    ShadowStatus,
    TableStatus,
    TaskOutcome,
)


class MetricKind(StrEnum):
    """The Prometheus type of a figure."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric family: ``samples`` are (label values, value) in the order of ``labels``."""

    name: str
    text: str
    samples: tuple[tuple[tuple[str, ...], float], ...]
    labels: tuple[str, ...] = ()
    kind: MetricKind = MetricKind.GAUGE


def figures(state: ControlState, now: datetime) -> Iterator[Figure]:
    """Yield all figures of ``state``. A family without samples is left out."""
    yield from (figure for figure in _all(state, now) if figure.samples)


def _all(state: ControlState, now: datetime) -> Iterator[Figure]:
    yield one("foreshard_high_water", "LPS above which a partition is relieved", state.limits.high_water)
    limit = state.limits.maximum_staleness.total_seconds()
    yield one("foreshard_shadow_maximum_staleness_seconds", "Maximum lag of a shadow that serves reads", limit)
    stuck = state.limits.stuck_after.total_seconds()
    yield one("foreshard_move_stuck_after_seconds", "Time in one state after which a move counts as stuck", stuck)
    if state.partitions is not None:
        yield from _partitions(state.partitions)
    if state.moves is not None:
        yield from _moves(state.moves, now)
    if state.shadows is not None:
        yield from _shadows(state.shadows, now)
    if state.gates is not None:
        yield from _gates(state.gates)
    if state.table is not None:
        yield from _table(state.table, now)
    if state.forecast is not None:
        yield from _forecast(state.forecast)
    if state.accuracy is not None:
        yield from _accuracy(state.accuracy)
    if state.plan is not None:
        yield from _plan(state.plan)
    if state.loop is not None:
        yield from _loop(state.loop)
    if state.open_conflicts is not None:
        yield one("foreshard_conflicts_open", "Unresolved concurrent versions", state.open_conflicts)
    if state.outcomes is not None:
        yield from _outcomes(state.outcomes)


def one(name: str, text: str, value: float | None) -> Figure:
    """Return a figure without labels. It has no sample if the value is unknown."""
    return Figure(name, text, () if value is None else (((), float(value)),))


def _by(name: str, text: str, label: str, values: Iterable[tuple[str, float | None]]) -> Figure:
    return Figure(name, text, tuple(((which,), float(value)) for which, value in values if value is not None), (label,))


def _partitions(found: tuple[PartitionStatus, ...]) -> Iterator[Figure]:
    def each(name: str, text: str, values: Iterable[float | None]) -> Figure:
        ids = (p.partition_id for p in found)
        return _by(f"foreshard_partition_{name}", text, "partition", zip(ids, values, strict=True))

    places = tuple(((p.partition_id, p.geographic_location), 1.0) for p in found)
    yield Figure("foreshard_partition_info", "Partitions and where they stand", places, ("partition", "location"))
    yield each("capacity", "Capacity in cost units per second", (p.capacity for p in found))
    yield each("load", "Cost units per second now, as last reported", (p.current_load for p in found))
    yield each("predicted_load", "Cost units per second at the forecast's peak", (p.predicted_load for p in found))
    yield each("lps", "Load Prediction Score: forecast peak at the upper quantile ÷ capacity", (p.lps for p in found))
    yield each("slots", "Slots of the routing table on the partition", (p.slots for p in found))
    yield each("keys", "Keys whose primary copy the table lists on the partition", (p.keys for p in found))
    yield each("draining", "1 while the partition is draining", (float(p.draining) for p in found))
    reachable = (None if p.reachable is None else float(p.reachable) for p in found)
    yield each("reachable", "1 if the partition answered its load reporter", reachable)
    yield each("load_timestamp_seconds", "When the load was reported", (_moment(p.reported_at) for p in found))


def _moves(found: MoveStatus, now: datetime) -> Iterator[Figure]:
    yield _by("foreshard_moves", "Moves by state", "state", _complete(found.by_state, tuple(MoveState)))
    yield one("foreshard_move_oldest_seconds", "Age of the oldest unfinished move", _age(found.oldest_planned_at, now))
    text = "Longest time that an unfinished move has been in its state"
    yield one("foreshard_move_longest_in_state_seconds", text, _age(found.waiting_since, now))
    moment = _moment(found.last_transition_at)
    yield one("foreshard_move_last_transition_timestamp_seconds", "When a move last changed its state", moment)
    if found.pauses:
        yield one("foreshard_move_last_pause_seconds", "Cutover pause of the latest move", found.pauses[0])
        yield one("foreshard_move_largest_pause_seconds", "Longest cutover pause of the latest moves", max(found.pauses))


def _shadows(found: ShadowStatus, now: datetime) -> Iterator[Figure]:
    yield _by("foreshard_shadows", "Shadows by state", "state", _complete(found.by_state, tuple(ShadowState)))
    lags = ((partition, _age(moment, now)) for partition, moment in sorted(found.caught_up_at.items()))
    text = "Lag of the least fresh live shadow on a partition"
    yield _by("foreshard_shadow_lag_seconds", text, "partition", lags)
    yield one("foreshard_shadows_unknown_lag", "Live shadows whose freshness is unknown", found.unknown)


def _gates(found: tuple[GateStatus, ...]) -> Iterator[Figure]:
    def each(name: str, text: str, values: Iterable[float | None]) -> Figure:
        return _by(f"foreshard_gate_{name}", text, "gate", zip((g.gate for g in found), values, strict=True))

    yield each("passed", "1 if the gate's latest result passed", (float(g.passed) for g in found))
    yield each("failures", "Failed expectations of the gate's latest result", (g.failures for g in found))
    yield each("hour_timestamp_seconds", "The hour of the gate's latest result", (_moment(g.hour) for g in found))
    yield each("timestamp_seconds", "When the gate last ran", (_moment(g.asked_at) for g in found))


def _table(found: TableStatus, now: datetime) -> Iterator[Figure]:
    yield one("foreshard_routing_table_version", "Version of the published routing table", found.version)
    yield one("foreshard_routing_table_age_seconds", "Time since the last publication", _age(found.published_at, now))
    yield one("foreshard_routing_table_keys", "Keys that the published table lists", found.listed_keys)
    yield one("foreshard_sidecars", "Sidecars heard recently", found.sidecars)
    yield one("foreshard_sidecars_behind", "Sidecars heard recently that answer from an older version", found.sidecars_behind)


def _forecast(found: ForecastStatus) -> Iterator[Figure]:
    yield _by("foreshard_forecast_keys", "Keys of the latest forecasts by model", "model", sorted(found.models.items()))
    text = "Share of the latest forecasts made by a fallback"
    yield one("foreshard_forecast_fallback_share", text, found.fallback_share if found.models else None)


def _accuracy(found: AccuracyStatus) -> Iterator[Figure]:
    def each(name: str, text: str) -> Figure:
        values = ((model, figures.get(name)) for model, figures in sorted(found.models.items()))
        return _by(f"foreshard_forecast_{name}", text, "model", values)

    yield each("wape", "Sum of absolute errors ÷ sum of actual cost, of the last forecast whose horizon is over")
    yield each("bias", "Sum of (forecast − actual) ÷ sum of actual cost")
    yield each("pinball", "Pinball loss of the upper quantile ÷ sum of actual cost")
    yield each("coverage", "Share of hours at or below the upper quantile")
    moment = _moment(found.hour)
    yield one("foreshard_forecast_accuracy_hour_timestamp_seconds", "Last hour of the judged forecast", moment)


def _plan(found: PlanStatus) -> Iterator[Figure]:
    for name, value in (("moves", found.moves), ("shadows", found.shadows), ("removals", found.removals)):
        yield one(f"foreshard_plan_{name}", f"{name.capitalize()} in the latest plan", value)
    text = "Partitions over the threshold that the latest plan could not relieve"
    yield one("foreshard_plan_refusals", text, found.refusals)


def _loop(found: LoopStatus) -> Iterator[Figure]:
    hours = ((stage, _moment(hour)) for stage, hour in sorted(found.hours.items()))
    text = "Start of the latest hour that a stage has finished"
    yield _by("foreshard_last_hour_timestamp_seconds", text, "stage", hours)
    yield one("foreshard_last_hour_accesses", "Accesses in the latest tallied hour", found.accesses)
    yield one("foreshard_last_hour_keys", "Keys accessed in the latest tallied hour", found.keys)


def _outcomes(found: tuple[TaskOutcome, ...]) -> Iterator[Figure]:
    labels = ("dag", "task", "state")
    counts = tuple(((o.dag, o.task, o.state), float(o.count)) for o in found)
    yield Figure("foreshard_task_outcomes", "How the tasks of the DAGs ended", counts, labels, MetricKind.COUNTER)
    seconds = tuple(((o.dag, o.task, o.state), o.seconds) for o in found)
    yield Figure("foreshard_task_seconds", "Time that the tasks of the DAGs took", seconds, labels, MetricKind.COUNTER)


def _complete(counts: Mapping[str, int], states: tuple[str, ...]) -> list[tuple[str, float | None]]:
    """Add the states without members, so that a series does not end when its last member leaves the state."""
    return [(state, counts.get(state, 0)) for state in (*states, *sorted(set(counts) - set(states)))]


def _moment(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
