"""The changes of publications, and the moves that made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foreshard.errors import UnknownMove

if TYPE_CHECKING:
    from foreshard.ports.routing import Publication
    from foreshard.quality.changes import PublishedChange
    from foreshard.stages._ports import WithMoveJournal


def published_changes(ports: WithMoveJournal, publications: Sequence[Publication]) -> tuple[PublishedChange, ...]:
    """Return the changes of ``publications``, oldest first, each with the target of the move that published it.

    A publication without changes rewrote the whole table: what was published before it explains nothing.
    """
    from foreshard.quality.changes import PublishedChange

    found: list[PublishedChange] = []
    for publication in publications:
        if not publication.changes:
            found.clear()
            continue
        moved_to = _target(ports, publication.cause)
        for place, change in enumerate(publication.changes):
            before = publication.before[place] if place < len(publication.before) else None
            found.append(PublishedChange(publication.version, change, before, moved_to))
    return tuple(found)


def _target(ports: WithMoveJournal, cause: str) -> str | None:
    """Return where the move that a publication's cause names went; None if it names no move of the journal."""
    if not cause.startswith("move "):
        return None
    move_id = cause.removeprefix("move ").removesuffix(" reverted")
    try:
        return ports.move_journal.get(move_id).move.target
    except UnknownMove:
        return None
