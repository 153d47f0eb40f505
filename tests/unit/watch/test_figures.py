from __future__ import annotations

from datetime import UTC, datetime, timedelta

from foreshard.model.move_state import MoveState
from foreshard.model.shadow_state import ShadowState
from foreshard.watch.figures import Figure, figures
from foreshard.watch.state import (
    AccuracyStatus,
    ControlState,
    ForecastStatus,
    GateStatus,
    Limits,
    LoopStatus,
    MoveStatus,
    PartitionStatus,
    ShadowStatus,
    TableStatus,
)

NOW = datetime(2024, 3, 1, 8, tzinfo=UTC)
LIMITS = Limits(0.8, timedelta(seconds=10), timedelta(minutes=15))


def shown(**parts: object) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(ControlState(LIMITS, **parts), NOW)}  # type: ignore[arg-type]


def value(figure: Figure) -> float:
    ((labels, number),) = figure.samples
    assert labels == ()
    return number


def test_the_alerts_limits_follow_the_settings_even_where_nothing_else_could_be_read() -> None:
    seen = shown()
    assert set(seen) == {
        "foreshard_high_water",
        "foreshard_move_stuck_after_seconds",
        "foreshard_shadow_maximum_staleness_seconds",
    }
    assert value(seen["foreshard_move_stuck_after_seconds"]) == 900


def test_a_value_without_a_report_is_left_out_and_not_shown_as_zero() -> None:
    unknown = PartitionStatus("alpha", "Here", 10.0, 0.0, 0.0)
    known = PartitionStatus("beta", "There", 10.0, 4.0, 5.0, lps=0.5, reachable=False, reported_at=NOW)
    seen = shown(partitions=(unknown, known))
    assert seen["foreshard_partition_reachable"].samples == ((("beta",), 0.0),)
    assert seen["foreshard_partition_lps"].samples == ((("beta",), 0.5),)
    assert seen["foreshard_partition_load_timestamp_seconds"].samples == ((("beta",), NOW.timestamp()),)
    assert [labels for labels, _ in seen["foreshard_partition_capacity"].samples] == [("alpha",), ("beta",)]


def test_every_state_has_a_series_and_an_unknown_one_is_shown_too() -> None:
    seen = shown(moves=MoveStatus({"fenced": 2, "paused": 1}), shadows=ShadowStatus({}))
    moves = {labels[0]: number for labels, number in seen["foreshard_moves"].samples}
    assert set(moves) == {*MoveState, "paused"}
    assert (moves["fenced"], moves["planned"], moves["paused"]) == (2, 0, 1)
    assert {labels[0] for labels, _ in seen["foreshard_shadows"].samples} == set(ShadowState)


def test_ages_are_counted_from_now_and_never_negative() -> None:
    since = NOW - timedelta(minutes=20)
    seen = shown(
        moves=MoveStatus({}, since, since, NOW, (0.02, 0.5, 0.01)), table=TableStatus(3, NOW + timedelta(seconds=5), 10)
    )
    assert value(seen["foreshard_move_oldest_seconds"]) == 1200
    assert value(seen["foreshard_move_longest_in_state_seconds"]) == 1200
    assert value(seen["foreshard_move_last_pause_seconds"]) == 0.02
    assert value(seen["foreshard_move_largest_pause_seconds"]) == 0.5
    assert value(seen["foreshard_routing_table_age_seconds"]) == 0


def test_without_unfinished_moves_there_is_no_age() -> None:
    assert "foreshard_move_longest_in_state_seconds" not in shown(moves=MoveStatus({"done": 5}))


def test_shadow_lag_is_shown_by_partition() -> None:
    seen = shown(shadows=ShadowStatus({"live": 3}, {"b": NOW - timedelta(seconds=3), "a": NOW}, 1))
    assert seen["foreshard_shadow_lag_seconds"].samples == ((("a",), 0.0), (("b",), 3.0))
    assert value(seen["foreshard_shadows_unknown_lag"]) == 1


def test_gates_and_stages_are_shown_with_their_hours() -> None:
    gates = (GateStatus("plan", NOW, False, 2, NOW), GateStatus("table", NOW, True, 0))
    seen = shown(gates=gates, loop=LoopStatus({"tally": NOW}, 40, 3))
    assert seen["foreshard_gate_passed"].samples == ((("plan",), 0.0), (("table",), 1.0))
    assert seen["foreshard_gate_timestamp_seconds"].samples == ((("plan",), NOW.timestamp()),)
    assert seen["foreshard_last_hour_timestamp_seconds"].samples == ((("tally",), NOW.timestamp()),)


def test_the_fallback_share_counts_keys() -> None:
    status = ForecastStatus({"prophet": 6, "recent_mean": 1, "no_history": 1}, frozenset({"recent_mean", "no_history"}))
    assert value(shown(forecast=status)["foreshard_forecast_fallback_share"]) == 0.25
    assert "foreshard_forecast_fallback_share" not in shown(forecast=ForecastStatus({}, frozenset()))


def test_forecast_errors_are_shown_by_model_where_they_are_known() -> None:
    status = AccuracyStatus(NOW, {"all": {"wape": 0.2, "bias": None, "coverage": 0.9}, "seasonal_naive": {"wape": 0.3}})
    seen = shown(accuracy=status)
    assert seen["foreshard_forecast_wape"].samples == ((("all",), 0.2), (("seasonal_naive",), 0.3))
    assert seen["foreshard_forecast_coverage"].samples == ((("all",), 0.9),)
    assert "foreshard_forecast_bias" not in seen


def test_families_are_named_once() -> None:
    names = [figure.name for figure in figures(ControlState(LIMITS, moves=MoveStatus({}), shadows=ShadowStatus({})), NOW)]
    assert len(names) == len(set(names))
