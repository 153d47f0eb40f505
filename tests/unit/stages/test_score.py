"""Scoring, with every port in memory."""

from dataclasses import replace

import pytest
from tests.unit.stages.fakes import HOUR, Forecasts, Ports, Registry, Routing, Scores, Series, Tallies, forecast, key_load

from foreshard.errors import MissingStageResult, UnknownPartition
from foreshard.model import Partition, PartitionState, Placement
from foreshard.settings import Settings
from foreshard.stages.forecast import prepare_chunks
from foreshard.stages.score import refresh_predicted_load, score_partitions
from foreshard.stages.snapshot import load_scoring_input

TWO = (Partition("alpha", "west", 1.0), Partition("beta", "east", 1.0))
ON_ALPHA = {"a": Placement("a", "alpha"), "b": Placement("b", "beta")}


def ports(forecasts=None, placements=ON_ALPHA, load=(), **more):
    saved = Forecasts({HOUR: forecasts or forecast(a=3600.0, b=360.0)})
    return Ports(
        Settings(),
        forecasts=saved,
        scores=Scores(),
        registry=Registry(*TWO),
        routing=Routing(placements),
        tallies=Tallies(load),
        series=Series(),
        **more,
    )


def test_the_scores_and_the_predicted_loads_are_saved():
    at = ports()
    summary = score_partitions(at, HOUR)
    assert (summary.partitions, summary.worst, summary.over_high_water) == (2, "alpha", ("alpha",))
    assert {score.partition_id: score.keys for score in at.scores[HOUR]} == {"alpha": 1, "beta": 1}
    assert at.registry.predicted == {score.partition_id: score.predicted_load for score in at.scores[HOUR]}
    assert at.registry.predicted["alpha"] > at.registry.predicted["beta"] > 0


def test_refreshing_the_predicted_load_leaves_the_saved_scores_alone():
    at = ports()
    score_partitions(at, HOUR)
    saved = at.scores[HOUR]
    at.routing.table = Routing({"a": Placement("a", "beta"), "b": Placement("b", "beta")}).table
    lps = refresh_predicted_load(at, HOUR)
    assert lps["beta"] > lps["alpha"] == 0.0
    assert at.scores[HOUR] == saved
    assert at.registry.predicted["alpha"] == 0.0


def test_a_listed_key_without_a_forecast_counts_as_idle():
    at = ports(forecast(a=3600.0))
    score_partitions(at, HOUR)
    assert {score.partition_id: (score.keys, score.lps) for score in at.scores[HOUR]}["beta"] == (1, 0.0)


def test_without_forecasts_there_are_no_scores():
    with pytest.raises(MissingStageResult):
        score_partitions(ports(), HOUR.replace(hour=3))


def test_a_table_that_names_an_unregistered_partition_is_refused():
    with pytest.raises(UnknownPartition, match="gone"):
        score_partitions(ports(placements={"a": Placement("a", "gone")}), HOUR)


def test_each_hour_is_read_once_by_the_forecast_stage():
    at = ports(load=key_load(72, a=3600.0, b=360.0))
    at.forecasts.begin = lambda hour, chunks: None
    prepare_chunks(at, HOUR)
    read = list(at.tallies.read)
    assert len(read) == len(set(read)) == 72
    score_partitions(at, HOUR)
    refresh_predicted_load(at, HOUR)
    assert at.tallies.read == read


def test_the_series_and_the_tallies_give_the_same_scores():
    prepared, unprepared = (ports(load=key_load(72, a=3600.0, b=360.0)) for _ in range(2))
    prepared.forecasts.begin = lambda hour, chunks: None
    prepare_chunks(prepared, HOUR)
    score_partitions(prepared, HOUR)
    score_partitions(unprepared, HOUR)
    assert prepared.scores[HOUR] == unprepared.scores[HOUR]


def test_every_slot_of_a_draining_partition_is_a_unit_so_that_idle_ones_leave_too():
    at = ports(forecast(a=3600.0), {"a": Placement("a", "alpha")})
    at.registry = Registry(TWO[0], replace(TWO[1], state=PartitionState.DRAINING))
    at.routing = Routing({"a": Placement("a", "alpha")}, ("alpha", "beta"))
    on_beta = {placement.key for placement in at.routing.table.slots.placements if placement.primary == "beta"}
    assert set(load_scoring_input(at, HOUR).keys) == {"a", *on_beta}
