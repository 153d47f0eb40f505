"""The first routing table of a deployment: the keys that are listed, and the default rule for all others."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from foreshard.errors import ConfigurationError, UnknownPartition
from foreshard.model import DefaultRule, Partition, Placement, RoutingTable
from foreshard.stages._ports import WithRegistry, WithRouting


class FirstTablePorts(WithRegistry, WithRouting, Protocol):
    """Reads the registered partitions. Writes version 1 of the routing table."""


def publish_first_table(ports: FirstTablePorts, placements: Mapping[str, str], unlisted_on: Iterable[str] = ()) -> RoutingTable:
    """Publish version 1: list ``placements`` (key → partition), and hash all other keys over ``unlisted_on`` (default: all).

    Raise :class:`UnknownPartition` for a partition that is not registered, and :class:`foreshard.errors.RoutingTableStands` if
    a different table exists already.
    """
    registered = {partition.partition_id: partition for partition in ports.registry.partitions()}
    table = first_table(registered, placements, tuple(unlisted_on), datetime.now(UTC))
    ports.routing.initialise(table)
    return table


def first_table(
    registered: Mapping[str, Partition], placements: Mapping[str, str], unlisted_on: tuple[str, ...], now: datetime
) -> RoutingTable:
    """Return version 1. Unlisted keys are distributed in proportion to the partitions' capacities."""
    if not registered:
        raise ConfigurationError("partitions", "none is registered", "run `foreshard partitions apply FILE.toml` first")
    for name in (*placements.values(), *unlisted_on):
        if name not in registered:
            raise UnknownPartition(name, sorted(registered))
    chosen = [registered[name] for name in unlisted_on or sorted(registered)]
    rule = DefaultRule(tuple(p.partition_id for p in chosen), tuple(p.capacity for p in chosen))
    return RoutingTable(1, {key: Placement(key, partition) for key, partition in placements.items()}, rule, now)


def read_placements(path: Path) -> dict[str, str]:
    """Read a CSV file with the columns ``key`` and ``partition``. Raise :class:`ConfigurationError` with the invalid line."""
    placements: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in (rows := csv.DictReader(file, strict=True)):
                key, partition = row.get("key"), row.get("partition")
                if not key or not partition:
                    raise ConfigurationError(str(path), f"line {rows.line_num} lacks key or partition", "give both columns")
                if placements.setdefault(key, partition) != partition:
                    raise ConfigurationError(str(path), f"key {key!r} is on two partitions", "list each key once")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(str(path), f"can't be read as CSV ({error})", "name a CSV file: key,partition") from error
    return placements
