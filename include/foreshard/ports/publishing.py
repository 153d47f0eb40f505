"""Change rows of the routing table: read, decide, publish, and start again if another publication was first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from foreshard.errors import StaleEpoch
from foreshard.model import PlacementChange

ATTEMPTS = 5
"""Publications that are tried before :class:`StaleEpoch` is raised."""


@dataclass(frozen=True, slots=True)
class TableEdit:
    """Changes to publish together. ``within(session, version)`` runs in the same transaction. ``move_id``: of a move's edit."""

    changes: Sequence[PlacementChange]
    cause: str
    within: Callable[[Any, int], None] | None = None
    move_id: str = ""


class TablePublisher(Protocol):
    """The part of :class:`foreshard.ports.routing.RoutingStore` that publishes."""

    def publish(
        self,
        changes: Sequence[PlacementChange],
        cause: str,
        *,
        within: Callable[[Any, int], None] | None = None,
        move_id: str = "",
    ) -> int: ...


def publish_edit(routing: TablePublisher, edit: Callable[[], TableEdit | None]) -> int | None:
    """Publish the edit and return the table's new version, or None if there is nothing to publish.

    ``edit`` reads the table and returns the changes to its rows. If another publication changes one of the rows first, ``edit``
    is called again. Raise :class:`StaleEpoch` after ``ATTEMPTS`` attempts.
    """
    for attempt in range(ATTEMPTS):
        try:
            wanted = edit()
            if wanted is None:
                return None
            return routing.publish(wanted.changes, wanted.cause, within=wanted.within, move_id=wanted.move_id)
        except StaleEpoch:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError
