"""Listing a shadow by hand, with every port in memory."""

from dataclasses import replace

import pytest
from tests.unit.stages.fakes import HOUR, Ports, Routing
from tests.unit.stages.test_publish import Shadows

from foreshard.errors import ShadowRefused
from foreshard.model import Placement, PlacementChange
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.stages.shadow_listing import publish_shadow

READY = Shadow("a|beta", "a", "alpha", "beta", ShadowState.READY, 1, 1, "why", HOUR)


class ListedShadows(Shadows):
    def __init__(self, routing, *shadows):
        super().__init__(*shadows)
        self._routing = routing

    def placements(self, keys):
        return {key: self._routing.table.placements[key] for key in keys if key in self._routing.table.placements}


def ports(shadow=READY, **placements):
    routing = Routing({key: Placement(key, *placement) for key, placement in placements.items()})
    return Ports(routing=routing, shadows=ListedShadows(routing, shadow))


def test_a_ready_shadow_is_listed_and_goes_live():
    at = ports(a=("alpha", ("gamma",)))
    assert publish_shadow(at, "a|beta") == 2
    assert at.routing.table.placements["a"] == Placement("a", "alpha", ("gamma", "beta"))
    assert at.shadows.get("a|beta").state is ShadowState.LIVE


def test_an_unlisted_key_is_listed_with_its_shadow():
    at = ports()
    publish_shadow(at, "a|beta")
    assert at.routing.table.placements["a"] == Placement("a", "alpha", ("beta",), 1)


def test_a_listed_shadow_changes_nothing():
    at = ports(a=("alpha", ("beta",)))
    assert publish_shadow(at, "a|beta") == 1
    assert at.routing.published == []


def test_another_publication_of_the_key_s_shadows_is_kept():
    at = ports(a=("alpha",))
    at.routing.overtaken_by = [PlacementChange("a", "alpha", ("gamma",), 1, 2)]
    publish_shadow(at, "a|beta")
    assert at.routing.table.placements["a"] == Placement("a", "alpha", ("gamma", "beta"), 2)


def test_a_key_that_moves_meanwhile_keeps_its_new_primary():
    at = ports(a=("alpha",))
    at.routing.overtaken_by = [PlacementChange("a", "gamma", (), 1, 2)]
    with pytest.raises(ShadowRefused, match="its key is on gamma now"):
        publish_shadow(at, "a|beta")
    assert at.routing.table.placements["a"] == Placement("a", "gamma", (), 2)
    assert at.shadows.get("a|beta").state is ShadowState.READY


def test_a_shadow_that_is_not_ready_is_refused():
    at = ports(replace(READY, state=ShadowState.COPYING), a=("alpha",))
    with pytest.raises(ShadowRefused, match="not ready"):
        publish_shadow(at, "a|beta")
