"""Which keys the routing table lists: a key is listed when its slot leaves without it, and delisted when it may go back.

A key that has a place of its own (it is hot, has a shadow, or a rule names it) needs no row while its slot is on the same
partition. It gets one before its slot moves away, and loses it once it is at home in its slot again and nothing names it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from foreshard.errors import MissingStageResult
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import Move, Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import slot_number, slots_among
from foreshard.model.move_state import OPEN
from foreshard.ports.publishing import TableEdit, publish_edit
from foreshard.stages._ports import WithForecasts, WithMoveJournal, WithPlacementRules, WithRouting

MOST_DELISTED = 5_000
"""Keys that one publication delists. The rest follows in the next hours."""


class ListKeysPorts(WithRouting, WithForecasts, WithMoveJournal, Protocol):
    """Reads the units of the hour's forecasts, and open moves. Writes the routing table."""


class DelistKeysPorts(ListKeysPorts, WithPlacementRules, Protocol):
    """Reads forecasts, placement rules and open moves. Writes the routing table."""


def list_staying_keys(ports: ListKeysPorts, hour: datetime, moves: Sequence[Move]) -> tuple[str, ...]:
    """List the keys that are units of the hour and whose slots the moves take away. Return them.

    A slot's move takes every key of the slot that is not listed. Call it before the moves are journalled. Slots that move
    already are left alone: their new moves will be skipped.
    """
    taken = units_in_moves(ports)
    slots = slots_among(unit for move in moves for unit in move.units if unit not in taken)
    if not slots:
        return ()
    space, going = ports.routing.space(), {unit for move in moves for unit in move.units}
    named = [key for key in _named(ports, hour) if key not in going and space.slot_of(key) in slots]
    return _list(ports, named, "a unit by itself", f"keys that stay while their slots move, hour {hour:%Y-%m-%dT%HZ}")


def list_ruled_key(ports: WithRouting, key: str, why: str) -> None:
    """List a key that a placement rule names, so that no move of its slot takes it along."""
    _list(ports, [key], why, f"rule for {key!r}")


def _list(ports: WithRouting, keys: Collection[str], why: str, cause: str) -> tuple[str, ...]:
    """List those of ``keys`` that are not listed yet, where they are. Return them."""
    listed: list[str] = []

    def edit() -> TableEdit | None:
        there = {placement.key for placement in ports.routing.listed_in(set(ports.routing.space().slots_of(keys)))}
        staying = [placement for key, placement in ports.routing.placements(keys).items() if key not in there]
        listed[:] = [placement.key for placement in staying]
        changes = [PlacementChange(p.key, p.primary, (), 0, p.epoch, why=why) for p in staying]
        return TableEdit(changes, cause) if changes else None

    publish_edit(ports.routing, edit)
    return tuple(listed)


def delist_idle_keys(ports: DelistKeysPorts, hour: datetime) -> tuple[str, ...]:
    """Delist the keys that are at home in their slots and that nothing names. Return them."""
    gone: list[str] = []

    def edit() -> TableEdit | None:
        table = ports.routing.current()
        rules = PlacementRules(ports.placement_rules.rules())
        idle = idle_keys(table, set(_named(ports, hour)), rules, units_in_moves(ports))[:MOST_DELISTED]
        gone[:] = [placement.key for placement in idle]
        changes = [PlacementChange(p.key, p.primary, (), p.epoch, p.epoch, delist=True) for p in idle]
        return TableEdit(changes, f"keys that are at home again, hour {hour:%Y-%m-%dT%HZ}") if changes else None

    publish_edit(ports.routing, edit)
    return tuple(gone)


def units_in_moves(ports: WithMoveJournal) -> frozenset[str]:
    """Return the units of all open moves."""
    return frozenset(unit for record in ports.move_journal.find(OPEN) for unit in record.move.units)


def idle_keys(
    table: RoutingTable, named: Collection[str], rules: PlacementRules, open_units: Collection[str]
) -> list[Placement]:
    """Return the listed keys that are at home, without shadow, unit, rule or open move of their own or of their slot."""
    return [
        placement
        for placement in table.placements.values()
        if not placement.shadows
        and placement.key not in named
        and placement.key not in open_units
        and (home := table.slots.of(placement.key)).primary == placement.primary
        and home.key not in open_units
        and not rules.of(placement.key)
    ]


def _named(ports: WithForecasts, hour: datetime) -> Iterable[str]:
    """Return the keys that are units of the hour by name; none without forecasts."""
    try:
        units = ports.forecasts.load(hour).keys
    except MissingStageResult:
        return ()
    return [unit for unit in units if slot_number(unit) is None]
