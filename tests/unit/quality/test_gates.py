"""The gates against real Great Expectations: what passes, what fails, and what is said of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foreshard.model import (
    DefaultRule,
    ForecastBatch,
    GateResult,
    HourCounts,
    Move,
    Partition,
    PartitionState,
    Placement,
    Plan,
    Reason,
    RoutingTable,
    ShadowCopy,
)
from foreshard.quality import data_docs
from foreshard.quality.gates import check_access_log, check_forecasts, check_plan, check_table
from foreshard.settings import ObserveSettings, PlanSettings

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
LIMITS = ObserveSettings()
WHY = Reason("test", "for the test")


def log(rows: int = 200, keys: int = 40, **changes: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(np.linspace(0, 3599, rows), unit="s"),
            "partitionable_key": [f"k{n % keys}" for n in range(rows)],
            "request_type": ["read"] * rows,
            "cost": [1.0] * rows,
        }
    )
    return frame.assign(**changes)


def weeks(*accesses: int, keys: int = 40) -> list[HourCounts]:
    return [HourCounts(HOUR - timedelta(weeks=n), count, keys) for n, count in enumerate(accesses, 1)]


def failures(result: GateResult) -> tuple[str, ...]:
    assert result.passed == (not result.failures)
    assert all("\n" not in line for line in result.failures)
    return result.failures


class TestAccessLog:
    def check(self, frame: pd.DataFrame, quarantined: int = 0, usual: list[HourCounts] | None = None) -> tuple[str, ...]:
        return failures(check_access_log(frame, HOUR, quarantined=quarantined, limits=LIMITS, usual=usual or weeks(210, 190)))

    def test_a_usual_hour_passes(self) -> None:
        result = check_access_log(log(), HOUR, quarantined=5, limits=LIMITS, usual=weeks(210, 190))
        assert result == GateResult("access_log", HOUR, True, (), 8)

    def test_too_many_bad_records_fail_and_the_line_says_how_many(self) -> None:
        assert self.check(log(340), 160) == ("quarantined share 0.32 > 0.05 (160 of 500 records)",)

    def test_exactly_the_allowed_share_of_bad_records_passes(self) -> None:
        assert self.check(log(190), 10) == ()

    def test_an_empty_hour_passes_where_such_hours_are_quiet_or_never_seen(self) -> None:
        assert self.check(log(0), usual=weeks(3, 0, 12, 1)) == ()
        assert self.check(log(0), usual=weeks(5000, 4000, 12)) == ()
        assert failures(check_access_log(log(0), HOUR, quarantined=0, limits=LIMITS)) == ()

    def test_an_empty_hour_fails_where_the_weeks_before_were_busy(self) -> None:
        (accesses, keys) = self.check(log(0), usual=weeks(5000, 4000))[0], self.check(log(0), usual=weeks(5000, 4000))[1:]
        assert accesses == "0 accesses < 90: this hour of the weeks before had 4,500; is the log's source down?"
        assert keys == ()

    def test_a_collapse_to_one_key_fails(self) -> None:
        assert self.check(log(keys=1)) == ("1 distinct keys < 4: this hour of the weeks before had 40",)

    def test_few_accesses_need_not_touch_many_keys(self) -> None:
        assert self.check(log(10, keys=2), usual=weeks(60, 60, keys=1000)) == ()

    def test_records_that_cleaning_should_have_caught_are_caught_here(self) -> None:
        frame = log(4, keys=4)
        frame.loc[0, "partitionable_key"] = None
        frame.loc[1, "timestamp"] = pd.Timestamp(HOUR) + pd.Timedelta(hours=1)
        frame.loc[2, "request_type"] = "explode"
        frame.loc[3, "cost"] = -1
        lines = self.check(frame, usual=weeks(1))
        assert lines == (
            "1 of 4 records have no partitionable key",
            "1 of 4 records lie outside the hour (seconds after its start: 3600.0)",
            "1 of 4 records have an unknown request type ('explode'); add it to observe.request_types",
            "1 of 4 records have a negative cost (-1.0)",
        )

    def test_a_log_without_measured_costs_passes(self) -> None:
        assert self.check(log().drop(columns="cost")) == ()


def batch(keys: tuple[str, ...] = ("a", "b"), horizon: int = 24, **changes: Any) -> ForecastBatch:
    mean = np.full((len(keys), horizon), 10.0)
    made = ForecastBatch(HOUR, 0.9, keys, mean, mean / 10, mean * 1.2, ("prophet",) * len(keys))
    return replace(made, **changes)


class TestForecasts:
    HISTORY = 20 + 5 * np.sin(np.arange(672) / 24 * 2 * np.pi)

    def check(self, made: ForecastBatch, keys: tuple[str, ...] = ("a", "b"), **more: Any) -> tuple[str, ...]:
        options = {"history_totals": self.HISTORY, "fallback_models": ("recent_mean",), **more}
        return failures(check_forecasts(made, keys, 24, **options))

    def test_sane_forecasts_pass(self) -> None:
        assert self.check(batch()) == ()

    def test_no_keys_and_no_history_pass(self) -> None:
        assert self.check(batch(()), (), history_totals=()) == ()

    def test_missing_strange_and_doubled_keys_are_named(self) -> None:
        lines = self.check(batch(("a", "a", "x")), ("a", "b"))
        assert lines == (
            "2 of 3 forecasts are for a key that is forecast more than once ('a')",
            "1 of 2 keys of the history have no forecast ('b')",
            "1 forecasts are for keys that the history doesn't have ('x')",
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_forecast_that_is_no_number_fails(self, value: float) -> None:
        for name in ("mean", "sigma", "upper"):
            wrong = getattr(batch(), name).copy()
            wrong[1, 7] = value
            assert "1 of 2 keys have NaN or inf in their forecast" in self.check(batch(**{name: wrong}))

    def test_negative_means_and_spreads_and_an_upper_below_the_mean_fail(self) -> None:
        mean = batch().mean.copy()
        mean[0, 3] = -4.0
        assert self.check(batch(mean=mean)) == ("1 of 2 keys have a negative mean (-4.0)",)
        assert self.check(batch(sigma=-mean)) == ("2 of 2 keys have a negative spread (-10.0)",)
        assert len(self.check(batch(upper=batch().mean * 0.5))) == 1

    def test_an_upper_equal_to_the_mean_passes(self) -> None:
        assert self.check(batch(upper=batch().mean)) == ()

    def test_a_wrong_horizon_fails(self) -> None:
        lines = self.check(batch(horizon=12))
        assert "the horizon is 12 hours, not 24" in lines

    def test_a_total_far_from_the_history_fails_on_both_sides(self) -> None:
        for factor in (4.0, 0.1):
            made = batch(mean=batch().mean * factor, upper=batch().upper * factor)
            (line,) = self.check(made)
            assert line.startswith(f"the forecast's total cost over 24 hours is {480 * factor:,.0f}, outside 160 … 1,440")

    def test_too_short_a_history_only_limits_from_above(self) -> None:
        assert self.check(batch(mean=batch().mean * 0.01), history_totals=[20.0] * 30) == ()
        assert len(self.check(batch(mean=batch().mean * 9, upper=batch().mean * 10), history_totals=[20.0] * 30)) == 1

    def test_fallbacks_may_carry_sparse_keys_but_not_the_load(self) -> None:
        mean = np.vstack([np.full(24, 19.0), np.full(24, 1.0)])
        sparse = batch(mean=mean, upper=mean * 1.2, models=("prophet", "recent_mean"))
        heavy = batch(mean=mean, upper=mean * 1.2, models=("recent_mean", "prophet"))
        assert self.check(sparse) == ()
        assert self.check(heavy) == (
            "fallback models carry 0.95 > 0.5 of the forecast cost (1 of 2 keys), though there is history enough",
        )
        assert self.check(heavy, history_totals=[20.0] * 47) == ()


PARTITIONS = (Partition("p1", "x", 1.0), Partition("p2", "x", 1.0), Partition("p3", "y", 1.0, state=PartitionState.DRAINING))


def move(key: str = "k", source: str = "p1", target: str = "p2", size: int = 10) -> Move:
    return Move(f"m-{key}-{target}", key, source, target, size, "c", WHY)


def shadow(key: str = "k", source: str = "p1", target: str = "p2") -> ShadowCopy:
    return ShadowCopy(f"s-{key}-{target}", key, source, target, WHY)


def plan(**changes: Any) -> Plan:
    before, after = {"p1": 1.1, "p2": 0.3, "p3": 0.0}, {"p1": 0.7, "p2": 0.7, "p3": 0.0}
    return replace(Plan(HOUR, 1, lps_before=before, lps_after=after), **changes)


class TestPlan:
    def check(self, made: Plan, limits: PlanSettings | None = None) -> tuple[str, ...]:
        return failures(check_plan(made, PARTITIONS, limits or PlanSettings()))

    def test_a_plan_that_relieves_passes(self) -> None:
        assert self.check(plan(moves=(move(),), shadows=(shadow("h"),), removals=(shadow("old"),))) == ()

    def test_an_empty_plan_passes(self) -> None:
        assert self.check(Plan(HOUR, 1)) == ()

    def test_a_key_moved_twice_or_to_itself_fails(self) -> None:
        lines = self.check(plan(moves=(move(), move("k", "p2", "p2"))))
        assert lines == (
            "2 of 2 moves are of a key that is moved more than once ('k')",
            "1 of 2 moves have the same source and target",
        )

    def test_unknown_and_drained_partitions_fail(self) -> None:
        lines = self.check(plan(moves=(move("a", "p9"), move("b", target="p3"))))
        assert lines == (
            "1 of 2 moves leave an unknown partition ('p9')",
            "1 of 2 moves go to a partition that is unknown or drained ('p3')",
        )

    def test_a_drained_partition_may_be_left(self) -> None:
        assert self.check(plan(moves=(move(source="p3"),))) == ()

    def test_a_shadow_beside_its_primary_or_twice_fails(self) -> None:
        assert len(self.check(plan(shadows=(shadow(target="p1"),)))) == 1
        assert len(self.check(plan(moves=(move(),), shadows=(shadow(),)))) == 1
        assert self.check(plan(shadows=(shadow(), shadow()))) == (
            "2 of 2 shadows repeat one of the same key on the same partition",
        )

    def test_a_shadow_made_and_removed_at_once_fails(self) -> None:
        assert self.check(plan(shadows=(shadow(),), removals=(shadow(),))) == (
            "1 of 1 removed shadows are made by the same plan",
        )

    def test_a_target_that_becomes_hot_fails_and_one_that_stays_as_it_was_passes(self) -> None:
        hot = plan(moves=(move(),), lps_after={"p1": 0.7, "p2": 0.95, "p3": 0.0})
        assert self.check(hot) == ("1 targets end above the high-water mark 0.8 and worse than before (p2 0.95)",)
        stays = plan(moves=(move(),), lps_before={"p1": 1.1, "p2": 0.95}, lps_after={"p1": 0.7, "p2": 0.95})
        assert self.check(stays) == ()

    def test_a_worse_worst_partition_fails(self) -> None:
        assert self.check(plan(lps_after={"p1": 1.2, "p2": 0.1, "p3": 0.0})) == ("worst LPS after 1.2 > 1.1 before",)

    def test_limits_hold(self) -> None:
        made = plan(moves=tuple(move(f"k{n}", size=600) for n in range(3)), shadows=(shadow("h"), shadow("i")))
        lines = self.check(made, PlanSettings(maximum_moves=2, maximum_shadows=1, maximum_bytes=1000))
        assert lines == ("3 moves > 2", "2 shadows > 1", "1,800 bytes to move > 1,000")

    def test_a_partition_without_a_score_after_fails(self) -> None:
        assert self.check(plan(moves=(move(),), lps_after={"p1": 0.7})) == ("2 of 3 partitions have no LPS before or after",)


def table(*placements: Placement, **changes: Any) -> RoutingTable:
    made = RoutingTable(7, {p.key: p for p in placements}, DefaultRule(("p1", "p2"), (1.0, 2.0)), HOUR)
    return replace(made, **changes)


class TestTable:
    def check(self, made: RoutingTable, **more: Any) -> tuple[str, ...]:
        return failures(check_table(made, PARTITIONS, HOUR, **{"last_version": 7, **more}))

    def test_a_whole_table_passes(self) -> None:
        made = table(Placement("a", "p1", ("p2",), 4), Placement("ü$.", "p3"))
        assert self.check(made, previous_keys=("a",), live_keys=("a", "new")) == ()

    def test_an_empty_table_with_a_default_rule_passes(self) -> None:
        assert self.check(table(), live_keys=("a",)) == ()

    def test_a_key_without_a_known_primary_fails(self) -> None:
        assert self.check(table(Placement("a", ""), Placement("b", "p9"))) == (
            "1 of 2 keys have no primary",
            "1 of 2 keys have a primary on an unknown partition ('p9')",
        )

    def test_wrong_shadows_and_epochs_fail(self) -> None:
        made = table(Placement("a", "p1", ("p1",)), Placement("b", "p1", ("p2", "p2")), Placement("c", "p1", ("p9",), 0))
        assert self.check(made) == (
            "1 of 3 keys have an epoch below 1 (0)",
            "1 of 3 keys list a shadow twice",
            "1 of 3 keys have a shadow on their primary's own partition",
            "1 of 3 keys have a shadow on an unknown partition",
        )

    def test_a_placement_under_another_key_fails(self) -> None:
        made = table(placements={"a": Placement("b", "p1")})
        assert self.check(made) == ("1 of 1 placements stand under another key",)

    def test_a_version_that_is_not_the_last_fails(self) -> None:
        assert self.check(table(), last_version=8) == ("the table's version is 7, not 8",)

    def test_lost_keys_are_named(self) -> None:
        assert self.check(table(Placement("a", "p1")), previous_keys=("a", "b", "c")) == (
            "2 of 3 keys of the version before are gone ('b', 'c')",
        )

    def test_without_a_default_rule_unlisted_keys_of_the_log_are_nowhere(self) -> None:
        made = table(Placement("a", "p1"), default_rule=DefaultRule((), ()))
        assert self.check(made, live_keys=("a", "b")) == (
            "the default rule names no partition",
            "1 of 2 keys of the log can't be located ('b')",
        )

    def test_a_broken_default_rule_fails(self) -> None:
        assert len(self.check(table(default_rule=DefaultRule(("p1", "p9"), (0.0, 1.0))))) == 2
        assert self.check(table(default_rule=DefaultRule(("p1", "p2"), (1.0,)))) != ()


class TestDataDocs:
    def test_each_gate_gets_pages_and_an_index_that_links_them(self, tmp_path: Path) -> None:
        check_access_log(log(), HOUR, quarantined=0, limits=LIMITS, docs_dir=tmp_path)
        check_table(table(), PARTITIONS, HOUR, last_version=8, docs_dir=tmp_path)
        index = (tmp_path / "index.html").read_text()
        pages = sorted(tmp_path.glob("validations/*/*/2014-11-20/08/result.html"))
        assert [page.parts[-5:-3] for page in pages] == [
            ("access_log", "hour"),
            ("access_log", "records"),
            ("table", "default_rule"),
            ("table", "placements"),
            ("table", "table"),
        ]
        for page in pages:
            assert page.relative_to(tmp_path).as_posix() in index
        assert "Failed" in pages[-1].read_text()
        assert not list(tmp_path.rglob("*.part"))

    def test_what_the_log_says_cannot_script_the_page(self, tmp_path: Path) -> None:
        frame = log(3, request_type="<script>alert(1)</script>")
        check_access_log(frame, HOUR, quarantined=0, limits=LIMITS, docs_dir=tmp_path)
        text = (tmp_path / "validations/access_log/records/2014-11-20/08/result.html").read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text

    def test_asking_again_replaces_the_page_and_old_days_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(data_docs, "KEPT_DAYS", 2)
        for day in (0, 1, 2, 2):
            check_table(table(), PARTITIONS, HOUR + timedelta(days=day), last_version=7, docs_dir=tmp_path)
        pages = sorted(tmp_path.glob("validations/table/table/*/*/result.html"))
        assert [page.parts[-3] for page in pages] == ["2014-11-21", "2014-11-22"]
