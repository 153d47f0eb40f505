"""Publishing an hour's shadows and removals in one transaction, and the gate of the table."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from tests.slots import slot_map

from foreshard.errors import GateFailed, HourRefused, StaleEpoch
from foreshard.model import (
    GateResult,
    Location,
    Move,
    Partition,
    Placement,
    PlacementChange,
    Plan,
    PlannedShadow,
    Reason,
    RoutingTable,
)
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.settings import Settings
from foreshard.stages.judging.acceptance import accept_result
from foreshard.stages.publish import gate_table, publish_hour
from foreshard.wiring import Wiring

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
WHY = Reason("no_longer_needed", "its reason has gone")


@pytest.fixture
def wiring(mongods, unique_name, work_folder, control):
    settings = Settings.load(control_uri=mongods[0].uri, control_database=unique_name, data_dir=work_folder)
    with Wiring(settings) as built:
        places = [Partition(name, "here", 10.0, "mongodb://127.0.0.1:1") for name in ("alpha", "beta", "gamma")]
        built.registry.register(places, [Location("here", 0.0, 0.0)])
        rows = {"a": Placement("a", "alpha", (), 4), "b": Placement("b", "beta", ("gamma",), 2)}
        built.routing.initialise(RoutingTable(1, rows, slot_map(("gamma",), (1.0,)), HOUR))
        built.plans.save(Plan(HOUR, 1))
        yield built


def shadow(key, source, target, state=ShadowState.READY, epoch=1):
    return Shadow(f"{key}|{target}", key, source, target, state, epoch, 1, "hot_key", HOUR)


def state_of(wiring, shadow_id):
    return wiring.shadows.get(shadow_id).state


def test_ready_shadows_are_published_in_one_version_and_become_live(wiring):
    wiring.shadows.create(shadow("a", "alpha", "beta", epoch=4))
    wiring.shadows.create(shadow("unlisted", "gamma", "alpha"))
    summary = publish_hour(wiring, HOUR)
    table = wiring.routing.current()
    assert (summary.version, summary.published) == (2, True)
    assert table.placements["a"] == Placement("a", "alpha", ("beta",), 4)
    assert table.placements["unlisted"] == Placement("unlisted", "gamma", ("alpha",), 1)
    assert {state_of(wiring, "a|beta"), state_of(wiring, "unlisted|alpha")} == {ShadowState.LIVE}


def test_publishing_again_finds_nothing_to_publish(wiring):
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    publish_hour(wiring, HOUR)
    again = publish_hour(wiring, HOUR)
    assert (again.version, again.published, again.shadows, again.note) == (2, False, (), "nothing to publish")


@pytest.mark.parametrize("state", [ShadowState.REQUESTED, ShadowState.COPYING, ShadowState.CATCHING_UP, ShadowState.FAILED])
def test_a_shadow_that_is_not_ready_is_not_published(wiring, state):
    wiring.shadows.create(shadow("a", "alpha", "beta", state))
    assert not publish_hour(wiring, HOUR).published


def test_a_shadow_whose_primary_has_moved_is_not_published(wiring):
    wiring.shadows.create(shadow("a", "gamma", "beta"))
    assert not publish_hour(wiring, HOUR).published
    assert state_of(wiring, "a|beta") is ShadowState.READY


def test_removed_shadows_leave_the_table_in_the_same_version_as_new_ones_enter(wiring):
    wiring.shadows.create(shadow("b", "beta", "gamma", ShadowState.LIVE))
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    wiring.plans.save(Plan(HOUR, 1, removals=(PlannedShadow("b|gamma", "b", "beta", "gamma", WHY),)))
    summary = publish_hour(wiring, HOUR)
    table = wiring.routing.current()
    assert (summary.version, summary.shadows, summary.removals) == (2, ("a|beta",), ("b|gamma",))
    assert table.placements["b"] == Placement("b", "beta", (), 2)
    assert state_of(wiring, "b|gamma") is ShadowState.RETIRING


def test_a_removal_of_an_unpublished_shadow_only_retires_it(wiring):
    wiring.shadows.create(shadow("a", "alpha", "beta", ShadowState.COPYING))
    wiring.plans.save(Plan(HOUR, 1, removals=(PlannedShadow("a|beta", "a", "alpha", "beta", WHY),)))
    assert not publish_hour(wiring, HOUR).published
    assert state_of(wiring, "a|beta") is ShadowState.RETIRING


def test_a_retiring_shadow_leaves_the_table(wiring):
    wiring.shadows.create(shadow("b", "beta", "gamma", ShadowState.RETIRING))
    wiring.plans.save(Plan(HOUR, 1, removals=(PlannedShadow("b|gamma", "b", "beta", "gamma", WHY),)))
    assert publish_hour(wiring, HOUR).removals == ("b|gamma",)
    assert wiring.routing.current().placements["b"].shadows == ()
    assert state_of(wiring, "b|gamma") is ShadowState.RETIRING
    assert not publish_hour(wiring, HOUR).published


def test_a_removal_that_is_done_is_ignored(wiring):
    wiring.plans.save(Plan(HOUR, 1, removals=(PlannedShadow("a|beta", "a", "alpha", "beta", WHY),)))
    assert not publish_hour(wiring, HOUR).published


def test_a_dry_run_publishes_nothing(wiring):
    later = HOUR + timedelta(hours=1)
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    wiring.plans.save(Plan(later, 1, dry_run=True))
    assert "dry run" in publish_hour(wiring, later).note
    assert wiring.routing.version() == 1


def test_an_overtaken_publication_starts_again_from_the_new_table(wiring, monkeypatch):
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    publish, overtaken = wiring.routing.publish, []

    def overtake(changes, cause, *, within=None, move_id=""):
        if not overtaken:
            overtaken.append(publish([PlacementChange("a", "alpha", ("gamma",), 4, 5)], "another"))
        return publish(changes, cause, within=within)

    monkeypatch.setattr(wiring.routing, "publish", overtake)
    assert publish_hour(wiring, HOUR).version == 3
    assert wiring.routing.current().placements["a"] == Placement("a", "alpha", ("gamma", "beta"), 5)


def test_a_publication_that_is_always_overtaken_fails_and_changes_nothing(wiring, monkeypatch):
    wiring.shadows.create(shadow("a", "alpha", "beta"))

    def overtaken(changes, cause, *, within=None, move_id=""):
        raise StaleEpoch("a", 4, 5)

    monkeypatch.setattr(wiring.routing, "publish", overtaken)
    with pytest.raises(StaleEpoch):
        publish_hour(wiring, HOUR)
    assert state_of(wiring, "a|beta") is ShadowState.READY


def test_the_gate_passes_the_published_table_and_keeps_its_result(wiring):
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    publish_hour(wiring, HOUR)
    gate_table(wiring, HOUR)
    assert wiring.gates.load("table", HOUR).passed


def test_the_gate_stops_a_table_that_names_an_unknown_partition(wiring, control, unique_name):
    control[unique_name]["routing_table"].update_one({"_id": "a"}, {"$set": {"primary": "atlantis"}})
    with pytest.raises(GateFailed, match="atlantis"):
        gate_table(wiring, HOUR)


def test_the_gate_stops_a_table_that_has_lost_a_key(wiring, control, unique_name):
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    publish_hour(wiring, HOUR)
    control[unique_name]["routing_table"].delete_one({"_id": "a"})
    with pytest.raises(GateFailed, match="1 of 1 keys of the previous version are missing"):
        gate_table(wiring, HOUR)


def moved(wiring, key, source, target, epochs, move_id="m-1"):
    """Publish a change of primary, as a move does."""
    change = PlacementChange(key, target, (), epochs[0], epochs[1])
    return wiring.routing.publish([change], f"move {move_id}", move_id=move_id)


def test_the_gate_explains_a_move_by_the_journal_and_stops_one_that_it_does_not_know(wiring):
    wiring.move_journal.plan(Move("m-1", ("a",), "alpha", "beta", 1, "a", WHY), HOUR)
    moved(wiring, "a", "alpha", "beta", (4, 5))
    assert gate_table(wiring, HOUR).warnings == ()
    moved(wiring, "a", "beta", "gamma", (5, 6), "m-2")
    with pytest.raises(GateFailed, match="'a' went from beta to gamma in version 3, but no move took it there"):
        gate_table(wiring, HOUR)


def test_a_row_that_was_changed_by_hand_stops_the_hour_until_a_person_accepts_it(wiring, control, unique_name):
    wiring.shadows.create(shadow("a", "alpha", "beta"))
    publish_hour(wiring, HOUR)
    rows = control[unique_name]["routing_table"]
    rows.update_one({"_id": "a"}, {"$set": {"primary": "gamma"}})
    line = "'a' was on gamma (epoch 4, shadows beta) now, but version 2 says on alpha (epoch 4, shadows beta)"
    with pytest.raises(GateFailed, match=re.escape(line)):
        gate_table(wiring, HOUR)
    accept_result(wiring, "table", HOUR, "Ann", "mended by hand after an outage")
    for hour in (HOUR, HOUR + timedelta(hours=1)):
        (warning,) = gate_table(wiring, hour).warnings
        assert warning.startswith(f"accepted by Ann (mended by hand after an outage): {line}")
    rows.update_one({"_id": "a"}, {"$set": {"primary": "alpha", "epoch": 3}})
    with pytest.raises(GateFailed, match="the epoch of 'a' is 3, but was 4"):
        gate_table(wiring, HOUR)
    with pytest.raises(HourRefused, match="can't be accepted by a person"):
        accept_result(wiring, "table", HOUR, "Ann", "it will do")


def test_a_plan_is_not_accepted_but_made_again(wiring):
    wiring.gates.save(GateResult("plan", HOUR, False, ("3 moves > 2",), 18, final=("3 moves > 2",)))
    with pytest.raises(HourRefused, match="mend the cause, and run the gate plan again"):
        accept_result(wiring, "plan", HOUR, "Ann", "it will do")
