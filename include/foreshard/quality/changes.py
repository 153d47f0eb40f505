"""The published changes that explain a routing table."""

from __future__ import annotations

from dataclasses import dataclass

from foreshard.model import Placement, PlacementChange


@dataclass(frozen=True, slots=True)
class PublishedChange:
    """One row of the publication ``version``. ``before``: its unit's placement then; None if it was not listed.

    ``moved_to``: the target of the move that published it; None if no move did.
    """

    version: int
    change: PlacementChange
    before: Placement | None = None
    moved_to: str | None = None
