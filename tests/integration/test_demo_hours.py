"""The demo shows the same thing at every hour: its first partition will be too full, and keys leave it.

The stages run as the DAGs run them, on the sample as the demo cuts and places it, without live play.
"""

from datetime import UTC, datetime, timedelta

import pytest

from foreshard.demo._sample import load_sample, with_lookups
from foreshard.demo.demo_layout import PARTITION_LOCATIONS
from foreshard.demo.stages import COLLECTIONS, REQUEST_TYPES, DemoOptions, cut, place
from foreshard.settings import Settings
from foreshard.stages.forecast import fit_chunk, gate_forecasts, prepare_chunks
from foreshard.stages.log_import import import_history
from foreshard.stages.plan import gate_plan, plan_hour
from foreshard.stages.score import score_partitions
from foreshard.wiring import Wiring

OPTIONS = DemoOptions(riders=1, lookups=5, weeks=4, live_hours=1, pace=240.0)
AWKWARD = {
    "Friday night, when nobody rides": datetime(2026, 11, 20, 13, tzinfo=UTC),
    "Saturday 02:00, rush hour before the clock change and not after it": datetime(2026, 11, 21, 2, tzinfo=UTC),
    "Monday 00:00, after a calm day": datetime(2026, 11, 23, tzinfo=UTC),
}


@pytest.fixture(params=AWKWARD.values(), ids=AWKWARD.keys())
def closed(request, mongods, unique_name, work_folder, control, monkeypatch):
    """The wiring with the imported history of a demo at this hour, and the closed hour."""
    monkeypatch.setenv("FORESHARD_USER_KEY", "of this test, and of 32 bytes at least")
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        data_dir=work_folder,
        collections=COLLECTIONS,
        observe={"request_types": REQUEST_TYPES},
    )
    end, since = request.param, request.param - timedelta(weeks=OPTIONS.weeks)
    with Wiring(settings) as wiring:
        parts = cut(load_sample(end), OPTIONS)
        uris = dict(zip(PARTITION_LOCATIONS, [mongod.uri for mongod in (*mongods[1:], mongods[1])], strict=True))
        place(wiring, parts, uris)
        accesses = parts.sample.accesses
        log = with_lookups(accesses[accesses["timestamp"] >= since], OPTIONS.lookups)
        assert import_history(wiring, log, since, end).refused == ()
        yield wiring, parts.hour


def test_the_first_partition_is_relieved_and_none_exceeds_its_mark(closed):
    wiring, hour = closed
    for chunk in prepare_chunks(wiring, hour):
        fit_chunk(wiring, hour, chunk)
    assert gate_forecasts(wiring, hour).warnings == ()
    assert score_partitions(wiring, hour).over_high_water == ("sf-1",)
    summary = plan_hour(wiring, hour)
    assert gate_plan(wiring, hour).warnings == ()
    mark, plan = wiring.settings.plan.high_water, wiring.plans.load(hour)
    steps = (*plan.moves, *plan.shadows)
    assert {step.source for step in steps if step.reason.facts["source_lps_before"] > mark} == {"sf-1"}
    assert any(move.source == "sf-1" for move in plan.moves)
    assert summary.worst_lps_after <= wiring.settings.plan.high_water
    assert not summary.refusals
