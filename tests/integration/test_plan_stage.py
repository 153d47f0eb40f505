"""Score and plan against a real control database and real partitions, from tallies to a saved plan."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from tests.slots import slot_map

from foreshard.cli.plan import plan as plan_command
from foreshard.errors import GateFailed, MissingStageResult, UnknownPartition, Unreachable
from foreshard.model import (
    CO_ACCESS_COLUMNS,
    KEY_LOAD_COLUMNS,
    ForecastBatch,
    HourTally,
    Location,
    Move,
    Partition,
    PartitionState,
    Placement,
    Plan,
    Reason,
    RoutingTable,
    SeriesMatrix,
)
from foreshard.ports.stages import SeriesBasis
from foreshard.settings import CollectionSetting, ForecastSettings, PlanSettings, Settings
from foreshard.stages.migrate import start_moves
from foreshard.stages.plan import gate_plan, plan_hour
from foreshard.stages.score import score_partitions
from foreshard.stages.shadow import start_shadows
from foreshard.stages.snapshot import load_snapshot
from foreshard.stores.control.planning import MongoPlanningStore
from foreshard.wiring import Wiring

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
KEYS = tuple(f"station {n}" for n in range(8))
PLACES = {"alpha": "San Francisco", "beta": "San Francisco", "gamma": "San Jose"}
LOCATIONS = (Location("San Francisco", 37.789, -122.401), Location("San Jose", 37.336, -121.890))


def settings_for(mongods, name, folder, **more):
    return Settings.load(
        control_uri=mongods[0].uri,
        control_database=name,
        data_dir=folder,
        collections=(CollectionSetting(database=name, collection="stations", key_field="station"),),
        forecast=ForecastSettings(history_days=2, horizon_hours=3),
        plan=PlanSettings(**{"high_water": 0.8, "reserve": 0.0, **more}),
    )


@pytest.fixture
def wiring(mongods, unique_name, work_folder, control, partition_clients):
    """All keys are on alpha, which will be overloaded; each key has 1 kB of documents."""
    with Wiring(settings_for(mongods, unique_name, work_folder)) as built:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:]}
        built.registry.register([Partition(n, PLACES[n], 10.0, uris[n]) for n in PLACES], LOCATIONS)
        rule = slot_map(tuple(PLACES), (1.0, 1.0, 1.0))
        built.routing.initialise(RoutingTable(1, {key: Placement(key, "alpha") for key in KEYS}, rule, HOUR))
        stations = partition_clients["alpha"][unique_name]["stations"]
        stations.insert_many([{"_id": f"{key}-{n}", "station": key, "pad": "x" * 1000} for key in KEYS for n in range(3)])
        observe(built, HOUR)
        forecast(built, HOUR, [1.0] * 8 + [0.5])
        yield built


def moved_at(wiring, database, keys, at):
    for key in keys:
        wiring.move_journal.plan(Move(f"m-{key}", (key,), "beta", "alpha", 0, key, Reason("x", "x")), at)
    history = {"history": {"state": "switched", "event": "switch", "at": at, "lease": 1}}
    done = {"$set": {"state": "done"}, "$unset": {"active": 1}, "$push": history}
    database["moves"].update_many({"units": {"$in": list(keys)}}, done)


def observe(wiring, hour, pairs=((KEYS[0], KEYS[1]),)):
    load = pd.DataFrame(
        [(hour, key, PLACES["alpha"], kind, 10, cost, 9) for key in KEYS for kind, cost in (("read", 10.0), ("write", 20.0))],
        columns=list(KEY_LOAD_COLUMNS),
    )
    co_access = pd.DataFrame([(hour, a, b, 500, 9, list(range(9))) for a, b in pairs], columns=list(CO_ACCESS_COLUMNS))
    wiring.tallies.save([HourTally(hour, load, co_access)])


def forecast(wiring, hour, rates, keys=(*KEYS, "newcomer"), sigma=0.05):
    """Constant forecasts in cost/s for three hours."""
    mean = np.repeat(np.array(rates)[:, None] * 3600, 3, axis=1)
    spread = np.full_like(mean, sigma * 3600)
    wiring.forecasts.begin(hour, 1)
    wiring.forecasts.save_chunk(0, ForecastBatch(hour, 0.9, keys, mean, spread, mean + 1.28 * spread, ("prophet",) * len(keys)))


class TestScore:
    def test_scores_are_saved_and_the_registry_knows_the_predicted_load(self, wiring):
        summary = score_partitions(wiring, HOUR)
        scores = {score.partition_id: score for score in wiring.scores.load(HOUR)}
        assert summary.worst == "alpha"
        assert summary.over_high_water == ("alpha",)
        assert scores["alpha"].lps == pytest.approx(0.8 + 1.2816 * 0.05 * np.sqrt(8) / 10, abs=0.06)
        assert scores["alpha"].complexity == pytest.approx(1.5, abs=0.05)
        assert sum(score.keys for score in scores.values()) == 9
        predicted = {partition.partition_id: partition.predicted_load for partition in wiring.registry.partitions()}
        assert predicted == {name: pytest.approx(score.predicted_load) for name, score in scores.items()}

    def test_scoring_again_replaces_the_hours_scores(self, wiring, control, unique_name):
        score_partitions(wiring, HOUR)
        score_partitions(wiring, HOUR)
        assert control[unique_name]["scores"].count_documents({}) == 3

    def test_without_forecasts_the_missing_result_is_named(self, wiring):
        with pytest.raises(MissingStageResult, match="forecasts"):
            score_partitions(wiring, HOUR + timedelta(hours=1))
        with pytest.raises(MissingStageResult, match="scores"):
            wiring.scores.load(HOUR)

    def test_errors_that_move_together_raise_the_score(self, wiring):
        common = np.random.default_rng(0).normal(size=48)
        calm = score_partitions(wiring, HOUR)
        series = SeriesMatrix(HOUR, KEYS, (100 + 30 * common + np.zeros((8, 1))).astype(np.float32), np.ones(48, bool))
        wiring.series.save(series, 3, SeriesBasis((), 4096))
        after = score_partitions(wiring, HOUR)
        assert after.error_correlation > 0.9
        assert after.worst_lps > calm.worst_lps

    def test_a_table_that_names_an_unknown_partition_is_refused_in_one_line(self, wiring, control, unique_name):
        control[unique_name]["routing_table"].update_one({"_id": KEYS[0]}, {"$set": {"primary": "atlantis"}})
        with pytest.raises(UnknownPartition, match="atlantis"):
            score_partitions(wiring, HOUR)


class TestPlan:
    def test_the_overloaded_partition_is_relieved_and_the_plan_is_saved_with_its_reasons(self, wiring):
        summary = plan_hour(wiring, HOUR)
        plan = wiring.plans.load(HOUR)
        assert not summary.dry_run
        assert summary.moves == len(plan.moves) > 0
        assert summary.worst_lps_after < summary.worst_lps_before
        assert {move.source for move in plan.moves} == {"alpha"}
        sizes = {move.units: move.estimated_bytes for move in plan.moves}
        assert all(3000 < size < 4000 for units, size in sizes.items() if units != ("newcomer",))
        assert sizes.get(("newcomer",), 0) == 0
        assert all(move.reason.sentence and move.reason.facts["needed_by"] for move in plan.moves)
        gate_plan(wiring, HOUR)

    def test_keys_used_together_stay_together(self, wiring):
        plan_hour(wiring, HOUR)
        keys = {move.units[0] for move in wiring.plans.load(HOUR).moves}
        assert len(keys & {KEYS[0], KEYS[1]}) in (0, 2)

    def test_a_saved_plan_is_loaded_unchanged(self, wiring):
        plan_hour(wiring, HOUR)
        plan = wiring.plans.load(HOUR)
        wiring.plans.save(plan)
        assert wiring.plans.load(HOUR) == plan

    def test_a_dry_run_is_marked_and_never_replaces_a_live_plan(self, wiring):
        assert plan_hour(wiring, HOUR, dry_run=True).dry_run
        assert wiring.plans.load(HOUR).dry_run
        assert start_moves(wiring, HOUR) == ()
        plan_hour(wiring, HOUR)
        plan_hour(wiring, HOUR, dry_run=True)
        assert not wiring.plans.load(HOUR).dry_run

    def test_an_old_hour_is_planned_without_effect_unless_act_on_old_hours_is_set(self, wiring):
        observe(wiring, HOUR + timedelta(hours=1))
        assert plan_hour(wiring, HOUR).dry_run
        assert not plan_hour(wiring, HOUR, act_on_old_hours=True).dry_run

    def test_a_plan_is_kept_once_its_moves_have_started(self, wiring):
        first = plan_hour(wiring, HOUR)
        before = wiring.plans.load(HOUR)
        assert start_moves(wiring, HOUR)
        forecast(wiring, HOUR, [0.1] * 9)
        assert plan_hour(wiring, HOUR) == first
        assert wiring.plans.load(HOUR) == before

    def test_a_pending_move_counts_as_done_and_its_key_is_not_moved_again(self, wiring):
        plan_hour(wiring, HOUR)
        moved = {move.units[0] for move in wiring.plans.load(HOUR).moves}
        start_moves(wiring, HOUR)
        later = HOUR + timedelta(hours=1)
        observe(wiring, later)
        forecast(wiring, later, [1.0] * 8 + [0.5])
        score_partitions(wiring, later)
        summary = plan_hour(wiring, later)
        assert summary.worst_lps_before <= wiring.settings.plan.high_water
        assert max(score.lps for score in wiring.scores.load(later)) > summary.worst_lps_before + 0.1
        assert gate_plan(wiring, later).warnings == ()  # a move that is under way is no other score
        assert not {move.units[0] for move in wiring.plans.load(later).moves} & moved

    def test_keys_that_were_moved_lately_stay_while_others_can_go(self, wiring, control, unique_name):
        moved_at(wiring, control[unique_name], KEYS[:7], HOUR - timedelta(hours=2))
        plan_hour(wiring, HOUR)
        assert {move.units[0] for move in wiring.plans.load(HOUR).moves} <= {KEYS[7], "newcomer"}

    def test_the_snapshot_knows_for_how_long_each_key_has_not_been_moved(self, wiring, control, unique_name):
        moved_at(wiring, control[unique_name], KEYS[:2], HOUR - timedelta(days=5))
        moved_at(wiring, control[unique_name], KEYS[2:4], HOUR - timedelta(days=15))
        seen, _ = load_snapshot(wiring, HOUR)
        assert seen.movable.all()
        idle = dict(zip(seen.keys, seen.idle_hours.tolist(), strict=True))
        assert {key: hours for key, hours in idle.items() if hours < np.inf} == dict.fromkeys(KEYS[:2], 5 * 24 + 1.0)

    def test_draining_partitions_receive_no_keys(self, wiring):
        wiring.registry.set_state("beta", PartitionState.DRAINING)
        plan_hour(wiring, HOUR)
        assert {move.target for move in wiring.plans.load(HOUR).moves} == {"gamma"}

    def test_the_gate_refuses_a_plan_beyond_its_limits(self, wiring):
        plan_hour(wiring, HOUR)
        plan = wiring.plans.load(HOUR)
        worse = Plan(HOUR, plan.table_version, plan.moves, lps_before={"alpha": 0.5}, lps_after={"alpha": 0.9})
        wiring.plans.save(worse)
        with pytest.raises(GateFailed, match="plan"):
            gate_plan(wiring, HOUR)
        assert not wiring.gates.load("plan", HOUR).passed

    def test_an_unreachable_partition_is_named(self, wiring, monkeypatch):
        monkeypatch.setattr("foreshard.stores.mongo_connections.SERVER_SELECTION_MS", 300)
        uri = "mongodb://127.0.0.1:9/?directConnection=true"
        wiring.registry.register([Partition("gamma", "San Jose", 10.0, uri)], LOCATIONS)
        with pytest.raises(Unreachable, match="gamma"):
            plan_hour(wiring, HOUR)


class TestShadows:
    """A key that is too hot for its partition and is read four times as often as written."""

    @pytest.fixture
    def hot(self, wiring):
        load = pd.DataFrame(
            [(HOUR, KEYS[0], "San Jose", kind, 10, cost, 9) for kind, cost in (("read", 40.0), ("write", 10.0))],
            columns=list(KEY_LOAD_COLUMNS),
        )
        wiring.tallies.save([HourTally(HOUR, load, pd.DataFrame(columns=list(CO_ACCESS_COLUMNS)))])
        forecast(wiring, HOUR, [12.0] + [0.1] * 8)
        return wiring

    def test_it_is_shadowed_and_the_shadow_stage_requests_the_shadow(self, hot):
        summary = plan_hour(hot, HOUR)
        plan = hot.plans.load(HOUR)
        assert summary.shadows == 1
        (shadow,) = plan.shadows
        assert (shadow.key, shadow.source, shadow.target) == (KEYS[0], "alpha", "gamma")
        gate_plan(hot, HOUR)
        assert start_shadows(hot, HOUR) == (shadow.shadow_id,)
        assert plan_hour(hot, HOUR) == summary

    def test_a_shadow_that_is_being_made_is_not_planned_again(self, hot):
        plan_hour(hot, HOUR)
        start_shadows(hot, HOUR)
        observe(hot, HOUR + timedelta(hours=1))
        forecast(hot, HOUR + timedelta(hours=1), [12.0] + [0.1] * 8)
        plan_hour(hot, HOUR + timedelta(hours=1))
        again = hot.plans.load(HOUR + timedelta(hours=1))
        assert "gamma" not in {shadow.target for shadow in again.shadows}
        assert again.lps_before["alpha"] < 1.0
        score_partitions(hot, again.hour)
        assert gate_plan(hot, again.hour).warnings == ()

    def test_a_shadow_that_is_being_removed_is_not_planned(self, hot, control, unique_name):
        plan_hour(hot, HOUR)
        (name,) = start_shadows(hot, HOUR)
        control[unique_name]["shadows"].update_one({"_id": name}, {"$set": {"state": "retiring", "hour": None}})
        plan_hour(hot, HOUR)
        assert "gamma" not in {shadow.target for shadow in hot.plans.load(HOUR).shadows}

    def test_it_is_removed_some_days_after_it_has_lost_its_reason(self, hot):
        plan_hour(hot, HOUR)
        (name,) = start_shadows(hot, HOUR)
        for hours, expected in ((1, 0), (150, 1)):
            later = HOUR + timedelta(hours=hours)
            observe(hot, later)
            forecast(hot, later, [0.1] * 9)
            assert plan_hour(hot, later).removals == expected
        assert hot.plans.load(later).removals[0].shadow_id == name


def test_large_collections_are_sampled_and_scaled(wiring, partition_clients, unique_name):
    stations = partition_clients["alpha"][unique_name]["stations"]
    stations.insert_many([{"station": "huge", "pad": "y" * 1000} for _ in range(2000)])
    given = wiring.registry.partitions(), wiring.settings.sharded_collections
    sizes, exact = (MongoPlanningStore(wiring.mongo, **sample).key_sizes(*given) for sample in ({"sample": 400}, {}))
    assert exact.typical == 0.0
    assert exact.of("huge") == pytest.approx(2000 * 1050, rel=0.02)
    assert sizes.of("huge") == pytest.approx(exact.of("huge"), rel=0.1)
    assert sizes.of("never seen") == sizes.typical > 0


def test_plan_hour_shows_scores_moves_and_reasons(wiring, mongods, unique_name, work_folder, monkeypatch):
    monkeypatch.setattr(Settings, "load", classmethod(lambda cls, **_: wiring.settings))
    result = CliRunner().invoke(plan_command, ["hour", "2024-03-05T07", "--dry-run"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert all(words in result.output for words in ("dry run, without effect", "alpha", "would reach"))
    shown = CliRunner().invoke(plan_command, ["show", "2024-03-05T07"], env={"COLUMNS": "200"})
    assert "would reach" in shown.output
    assert isinstance(CliRunner().invoke(plan_command, ["show", "2024-03-06T07"]).exception, MissingStageResult)
