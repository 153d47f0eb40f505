"""Everything of a saved table except its rows, as JSON: version, default rule, partitions, locations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from foreshard.model import DefaultRule, Location, Partition, PartitionState, Placement, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.address import public_uri


def description_of(saved: SavedRouting) -> dict[str, Any]:
    """Everything in ``saved`` except its rows, for JSON."""
    table = saved.table
    return {
        "identity": saved.identity,
        "version": table.version,
        "published_at": table.published_at.isoformat(),
        "default_rule": [list(table.default_rule.partitions), list(table.default_rule.weights)],
        "partitions": [
            [p.partition_id, p.geographic_location, p.capacity, public_uri(p.uri), p.state.value] for p in saved.partitions
        ],
        "locations": [[place.name, place.latitude, place.longitude, place.round_trips] for place in saved.locations],
    }


def routing_of(description: Mapping[str, Any], placements: Mapping[str, Placement], confirmed_at: float) -> SavedRouting:
    """The inverse of :func:`description_of`, with these placements."""
    about = description
    rule = DefaultRule(tuple(about["default_rule"][0]), tuple(about["default_rule"][1]))
    table = RoutingTable(about["version"], placements, rule, datetime.fromisoformat(about["published_at"]))
    partitions = tuple(
        Partition(name, place, capacity, uri, state=PartitionState(state))
        for name, place, capacity, uri, state in about["partitions"]
    )
    locations = tuple(
        Location(name, latitude, longitude, tuple((to, ms) for to, ms in round_trips))
        for name, latitude, longitude, round_trips in ((*place, ())[:4] for place in about["locations"])
    )
    return SavedRouting(about["identity"], table, partitions, locations, confirmed_at)
