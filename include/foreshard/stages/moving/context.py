"""The ports of one move, from the ports of a stage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from foreshard.model.unit_set import UnitSet, unit_set
from foreshard.move.context import MoveContext
from foreshard.move.pacer import Pacer
from foreshard.ports.move_journal import MoveRecord
from foreshard.stages._ports import WithMoveJournal, WithPacing, WithRouting, WithShadowAbsorber, WithUnitCopies

LOG = logging.getLogger("foreshard.move")
Notify = Callable[[MoveRecord], None]
EXCEPTIONS = "exceptions"
"""The note of a move that names the listed keys of its slots that it left out when it began."""


class MovePorts(WithMoveJournal, WithUnitCopies, WithRouting, WithShadowAbsorber, WithPacing, Protocol):
    """Reads the routing table. Writes the journal, both copies of the units, and their rows of the table."""


@contextmanager
def moving(ports: MovePorts, record: MoveRecord, notify: Notify | None = None) -> Iterator[MoveContext]:
    """Return the ports of one move, and close its copies at the end."""
    context = move_context(ports, record, notify)
    try:
        yield context
    finally:
        context.close()


def move_context(ports: MovePorts, record: MoveRecord, notify: Notify | None) -> MoveContext:
    """Return the ports of one move. Close them."""
    move, units = record.move, units_of_move(ports, record)
    return MoveContext(
        journal=ports.move_journal,
        units=units,
        source=ports.unit_copy(move.source, move.move_id, units),
        target=ports.unit_copy(move.target, move.move_id, units),
        routing=ports.routing,
        shadows=ports.shadow_absorber,
        limits=ports.migrate_settings,
        notify=notify or _log_progress,
        trouble=_log_trouble,
        together=_together,
        renew_every=ports.migrate_settings.lease_duration / 4,
        pacer=Pacer(ports.migration_limits, ports.strain_gauges((move.source, move.target))),
    )


def _together(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(second)
        return first(), beside.result()


def _log_trouble(record: MoveRecord, error: Exception) -> None:
    LOG.warning("the lease of move %s was not renewed: %s", record.move_id, error)


def units_of_move(ports: WithRouting, record: MoveRecord) -> UnitSet:
    """Return the move's units, without the listed keys of its slots. A move that has begun keeps its exceptions."""
    units = UnitSet(ports.routing.space(), record.move.units)
    if EXCEPTIONS in record.notes:
        return replace(units, exceptions=frozenset(record.notes[EXCEPTIONS]))
    return unit_set(units.units, units.space, (placement.key for placement in ports.routing.listed_in(units.slots)))


def _log_progress(record: MoveRecord) -> None:
    counters = record.counters
    LOG.info(
        "move %s of %s, %s to %s: %s, %d of %d documents",
        record.move_id,
        record.move.label,
        record.move.source,
        record.move.target,
        record.state,
        counters.get("documents", 0),
        counters.get("total", 0),
    )
