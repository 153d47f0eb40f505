"""Everything of a saved table except its listed keys, as JSON: version, slots, partitions, locations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from foreshard.model import Location, Partition, PartitionState, Placement, RoutingTable, SlotMap
from foreshard.model.key_space import KeySpace, KeyType, slot_unit
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.address import public_uri


def description_of(saved: SavedRouting) -> dict[str, Any]:
    """Everything in ``saved`` except its listed keys, for JSON."""
    table = saved.table
    return {
        "identity": saved.identity,
        "version": table.version,
        "published_at": table.published_at.isoformat(),
        "slots": slots_description(table.slots),
        "partitions": [
            [p.partition_id, p.geographic_location, p.capacity, public_uri(p.uri), p.state.value] for p in saved.partitions
        ],
        "locations": [[place.name, place.latitude, place.longitude, place.round_trips] for place in saved.locations],
    }


def routing_of(description: Mapping[str, Any], placements: Mapping[str, Placement], confirmed_at: float) -> SavedRouting:
    """The inverse of :func:`description_of`, with these placements."""
    about = description
    slots = slots_of(about["slots"])
    table = RoutingTable(about["version"], placements, slots, datetime.fromisoformat(about["published_at"]))
    partitions = tuple(
        Partition(name, place, capacity, uri, state=PartitionState(state))
        for name, place, capacity, uri, state in about["partitions"]
    )
    locations = tuple(
        Location(name, latitude, longitude, tuple((to, ms) for to, ms in round_trips))
        for name, latitude, longitude, round_trips in ((*place, ())[:4] for place in about["locations"])
    )
    return SavedRouting(about["identity"], table, partitions, locations, confirmed_at)


def slots_description(slots: SlotMap) -> dict[str, Any]:
    """The key type, the partitions' names, and each slot's owner (an index into the names) and epoch, for JSON."""
    names = {name: number for number, name in enumerate(sorted({placement.primary for placement in slots.placements}))}
    return {
        "key_type": slots.space.key_type.value,
        "names": list(names),
        "owners": [names[placement.primary] for placement in slots.placements],
        "epochs": [placement.epoch for placement in slots.placements],
    }


def slots_of(about: Mapping[str, Any]) -> SlotMap:
    """The inverse of :func:`slots_description`."""
    names, epochs = about["names"], about["epochs"]
    placements = tuple(
        Placement(slot_unit(slot), names[owner], (), epoch)
        for slot, (owner, epoch) in enumerate(zip(about["owners"], epochs, strict=True))
    )
    return SlotMap(KeySpace(KeyType(about["key_type"]), len(placements)), placements)
