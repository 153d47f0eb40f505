"""The first routing table of a deployment: the slots of all keys, and the keys that are listed by name."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from foreshard.errors import ConfigurationError, TooManyListedKeys, UnknownPartition
from foreshard.model import Partition, Placement, RoutingTable
from foreshard.model.key_space import DEFAULT_SLOTS, KeySpace, KeyType, canonical_key
from foreshard.routing.keys import key_problem
from foreshard.routing.slots import first_slots
from foreshard.stages._ports import WithKeyType, WithPlanSettings, WithRegistry, WithRouting


class FirstTablePorts(WithRegistry, WithRouting, WithKeyType, WithPlanSettings, Protocol):
    """Reads the registered partitions. Writes version 1 of the routing table."""


def publish_first_table(
    ports: FirstTablePorts, placements: Mapping[str, str], unlisted_on: Iterable[str] = (), slots: int = DEFAULT_SLOTS
) -> RoutingTable:
    """Publish version 1, as :func:`first_table` makes it.

    Raise :class:`UnknownPartition` for a partition that is not registered, :class:`TooManyListedKeys`, and
    :class:`foreshard.errors.RoutingTableStands` if a different table exists already.
    """
    table = plan_first_table(ports, placements, unlisted_on, slots)
    ports.routing.initialise(table)
    return table


def plan_first_table(
    ports: FirstTablePorts, placements: Mapping[str, str], unlisted_on: Iterable[str] = (), slots: int = DEFAULT_SLOTS
) -> RoutingTable:
    """Return the table that :func:`publish_first_table` would publish."""
    registered = {partition.partition_id: partition for partition in ports.registry.partitions()}
    table = first_table(registered, placements, tuple(unlisted_on), datetime.now(UTC), key_space(ports.key_type, slots))
    if len(table.placements) > ports.plan_settings.maximum_listed:
        raise TooManyListedKeys(len(table.placements), ports.plan_settings.maximum_listed)
    return table


def key_space(key_type: KeyType, slots: int) -> KeySpace:
    """Return the space of keys with this number of slots. Raise :class:`ConfigurationError` for an unusable number."""
    try:
        return KeySpace(key_type, slots)
    except ValueError as error:
        raise ConfigurationError("slots", str(error), "use the default unless you know better") from error


def first_table(
    registered: Mapping[str, Partition],
    placements: Mapping[str, str],
    unlisted_on: tuple[str, ...],
    now: datetime,
    space: KeySpace,
) -> RoutingTable:
    """Return version 1. Slots are distributed over ``unlisted_on`` (default: all) in proportion to the partitions' capacities.

    ``placements`` (key → partition) are existing keys. A key that is not on its slot's partition is listed.
    """
    if not registered:
        raise ConfigurationError("partitions", "none is registered", "run `foreshard partitions apply FILE.toml` first")
    for name in (*placements.values(), *unlisted_on):
        if name not in registered:
            raise UnknownPartition(name, sorted(registered))
    slots = first_slots(space, {name: registered[name].capacity for name in unlisted_on or sorted(registered)})
    away = {key: Placement(key, name) for key, name in placements.items() if slots.of(key).primary != name}
    return RoutingTable(1, away, slots, now)


def read_placements(path: Path, key_type: KeyType = KeyType.STRING) -> dict[str, str]:
    """Read a CSV file with the columns ``key`` and ``partition``. The keys become canonical.

    Raise :class:`ConfigurationError` with the invalid line.
    """
    placements: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in (rows := csv.DictReader(file, strict=True)):
                key, partition = row.get("key"), row.get("partition")
                if not key or not partition:
                    raise ConfigurationError(str(path), f"line {rows.line_num} lacks key or partition", "give both columns")
                if problem := key_problem(key, key_type):
                    raise ConfigurationError(
                        str(path), f"line {rows.line_num}: key {key!r} {problem.phrase}", "correct the key"
                    )
                key = canonical_key(key, key_type)
                if placements.setdefault(key, partition) != partition:
                    raise ConfigurationError(str(path), f"key {key!r} is on two partitions", "list each key once")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(str(path), f"can't be read as CSV ({error})", "name a CSV file: key,partition") from error
    return placements
