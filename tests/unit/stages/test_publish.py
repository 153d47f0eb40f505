"""Publishing an hour's shadows, with every port in memory."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.stages.fakes import HOUR, Forecasts, Plans, Ports, Routing

from foreshard.errors import StaleEpoch, UnknownShadow
from foreshard.model import ONE_HOUR, Placement, PlacementChange, Plan, PlannedShadow, Reason
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.publishing import ATTEMPTS
from foreshard.ports.replication import Shadow
from foreshard.stages.publish import publish_hour, slots_to_verify

REASON = Reason("far_reads", "why")


class Shadows:
    def __init__(self, *shadows):
        self.all = {shadow.shadow_id: shadow for shadow in shadows}
        self.sessions = []

    def shadows(self, states=()):
        return tuple(shadow for shadow in self.all.values() if not states or shadow.state in states)

    def get(self, shadow_id):
        if shadow_id not in self.all:
            raise UnknownShadow(shadow_id)
        return self.all[shadow_id]

    def change(self, shadow, state, fields=None, *, session=None):
        self.sessions.append(session)
        if self.all[shadow.shadow_id].state is not shadow.state:
            return None
        self.all[shadow.shadow_id] = replace(shadow, state=state)
        return self.all[shadow.shadow_id]


def shadow(state, key="a", source="alpha", target="beta"):
    return Shadow(f"{key}|{target}", key, source, target, state, 1, 1, "why", HOUR)


def ports(*shadows, placements=None, removals=(), dry_run=False, moves=()):
    plan = Plan(HOUR, 1, removals=tuple(removals), dry_run=dry_run)
    table = {"a": Placement("a", "alpha")} if placements is None else placements
    forecasts = Forecasts({HOUR: SimpleNamespace(keys=tuple(table))})
    rules, journal = SimpleNamespace(rules=tuple), SimpleNamespace(find=lambda _states: moves)
    named = {"forecasts": forecasts, "placement_rules": rules, "move_journal": journal}
    return Ports(plans=Plans({HOUR: plan}), shadows=Shadows(*shadows), routing=Routing(table), **named)


def test_a_ready_shadow_is_listed_and_goes_live_in_the_same_transaction():
    at = ports(shadow(ShadowState.READY))
    summary = publish_hour(at, HOUR)
    assert (summary.version, summary.published, summary.shadows) == (2, True, ("a|beta",))
    assert at.routing.table.placements["a"].shadows == ("beta",)
    assert at.shadows.get("a|beta").state is ShadowState.LIVE
    assert at.shadows.sessions == ["session"]


def test_a_second_call_finds_nothing_to_publish():
    at = ports(shadow(ShadowState.READY))
    publish_hour(at, HOUR)
    summary = publish_hour(at, HOUR)
    assert (summary.version, summary.published, summary.note) == (2, False, "nothing to publish")


def test_a_removal_leaves_the_table_and_its_shadow_retires():
    listed = {"a": Placement("a", "alpha", ("beta",))}
    removal = PlannedShadow("a|beta", "a", "alpha", "beta", REASON)
    at = ports(shadow(ShadowState.LIVE), placements=listed, removals=[removal])
    assert publish_hour(at, HOUR).removals == ("a|beta",)
    assert at.routing.table.placements["a"].shadows == ()
    assert at.shadows.get("a|beta").state is ShadowState.RETIRING


def test_a_retiring_shadow_that_is_still_listed_leaves_the_table():
    at = ports(shadow(ShadowState.RETIRING), placements={"a": Placement("a", "alpha", ("beta",))})
    publish_hour(at, HOUR)
    assert at.routing.table.placements["a"].shadows == ()


def test_a_shadow_of_an_old_primary_is_not_listed():
    at = ports(shadow(ShadowState.READY), placements={"a": Placement("a", "gamma")})
    assert not publish_hour(at, HOUR).published
    assert at.shadows.get("a|beta").state is ShadowState.READY


def test_a_removal_of_a_shadow_that_is_gone_is_ignored():
    at = ports(removals=[PlannedShadow("a|beta", "a", "alpha", "beta", REASON)])
    assert not publish_hour(at, HOUR).published


def test_a_dry_run_publishes_nothing():
    at = ports(shadow(ShadowState.READY), dry_run=True)
    assert publish_hour(at, HOUR).note == "dry run: nothing is published"
    assert at.routing.published == []


def test_an_overtaken_publication_starts_again_from_the_new_table():
    at = ports(shadow(ShadowState.READY))
    at.routing.overtaken_by = [PlacementChange("a", "alpha", ("gamma",), 1, 2)]
    publish_hour(at, HOUR)
    assert at.routing.table.placements["a"] == Placement("a", "alpha", ("gamma", "beta"), 2)


def test_a_publication_that_is_always_overtaken_changes_no_shadow():
    at = ports(shadow(ShadowState.READY))
    at.routing.overtaken_by = [PlacementChange("a", "alpha", (), 1 + n, 2 + n) for n in range(ATTEMPTS)]
    with pytest.raises(StaleEpoch):
        publish_hour(at, HOUR)
    assert at.shadows.get("a|beta").state is ShadowState.READY
    assert at.routing.published == []


def test_a_key_that_is_not_listed_gets_its_shadow_after_the_move_of_its_slot():
    slot = Routing({}).table.slots.of("a").key
    at = ports(shadow(ShadowState.READY), placements={}, moves=(SimpleNamespace(move=SimpleNamespace(units=(slot,))),))
    assert publish_hour(at, HOUR).shadows == ()
    assert at.shadows.get("a|beta").state is ShadowState.READY


def test_a_key_that_nothing_names_any_more_is_delisted():
    at = ports(placements={"a": Placement("a", "alpha", (), 3)})
    at.forecasts[HOUR] = SimpleNamespace(keys=("other",))
    assert publish_hour(at, HOUR).delisted == 1
    assert "a" not in at.routing.table.placements


@given(documents=st.integers(200_001, 10**9), power=st.integers(3, 12))
def test_each_hour_verifies_a_bounded_part_and_every_slot_has_its_turn(documents, power):
    space = KeySpace(slots=2**power)
    per_hour = len(slots_to_verify(space, documents, HOUR, ()))
    assert per_hour <= max(1, space.slots * 200_000 / documents)
    hours = -(-space.slots // per_hour)
    turns = [slots_to_verify(space, documents, HOUR + n * ONE_HOUR, ()) for n in range(min(hours, 300))]
    assert len(frozenset().union(*turns)) == min(space.slots, len(turns) * per_hour)


def test_slots_of_the_hour_s_moves_are_verified_beside_those_whose_turn_it_is():
    space = KeySpace()
    moved = [slot_unit(7), "some key"]
    slots = slots_to_verify(space, 10**8, HOUR, moved)
    assert slots >= {min(7, space.slot_of("some key"))}
    assert len(slots) <= 2 * max(1, space.slots * 200_000 // 10**8)


def test_few_documents_are_all_verified():
    assert slots_to_verify(KeySpace(), 200_000, HOUR, [slot_unit(7)]) is None
