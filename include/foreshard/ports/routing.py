"""How routing tables are published and read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.model import Placement, PlacementChange, RoutingTable
from foreshard.model.key_space import KeySpace


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the routing table: its changes, cause and time.

    ``before``: the previous placement of each change's unit, in the order of the changes (None: the key was not listed).
    """

    version: int
    changes: tuple[PlacementChange, ...]
    cause: str
    published_at: datetime
    before: tuple[Placement | None, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """The packed form of a table at ``version``. ``parts`` are read from the database one by one, in order."""

    identity: str
    version: int
    parts: Iterable[bytes]


class RoutingStore(Protocol):
    """The routing table and its versions (``routing_table``, ``routing_versions``)."""

    def initialise(self, table: RoutingTable) -> None:
        """Publish the first version. Do nothing if the same version is published already."""

    def version(self) -> int:
        """The current version; 0 if nothing is published."""

    def head(self) -> tuple[int, str]:
        """(version, identity); (0, "") without a table. All versions of one table have the same, unique identity."""

    def current(self) -> RoutingTable:
        """The whole table at one moment. Raise :class:`foreshard.errors.NoRoutingTable` if nothing is published."""

    def space(self) -> KeySpace:
        """The keys' type and the number of slots. Raise :class:`foreshard.errors.NoRoutingTable` if nothing is published."""

    def placement(self, unit: str) -> Placement:
        """Where a key or a slot lives, by at most two rows. A key that is not listed lives where its slot does."""

    def placements(self, units: Collection[str]) -> dict[str, Placement]:
        """Where each of ``units`` lives, by their rows only."""

    def listed_in(self, slots: Collection[int]) -> tuple[Placement, ...]:
        """The listed keys of these slots, wherever they live, by key."""

    def why_listed(self, key: str) -> str:
        """The reason that was given when the key was listed; "" if it is not listed, or without a reason."""

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """(partition → slots, partition → listed keys), without reading the table."""

    def upgrade(self) -> bool:
        """Rewrite a table of an earlier release with slots. Return False if there is nothing to do.

        Raise :class:`foreshard.errors.TableNotUpgradable` if its default rule names several partitions.
        """

    def image(self) -> PublishedImage | None:
        """The newest packed form; None if there is none. ``since`` its version returns the rest."""

    def repack(self) -> int:
        """Publish the packed form of the current table, and return its version."""

    def publish(
        self,
        changes: Sequence[PlacementChange],
        cause: str,
        *,
        within: Callable[[Any, int], None] | None = None,
        move_id: str = "",
    ) -> int:
        """Apply all changes in one transaction, and return the new version (the current one if ``changes`` is empty).

        ``within(session, version)`` runs inside the same transaction (a move's journal entry); ``move_id`` names the move.
        Raise :class:`foreshard.errors.StaleEpoch`, and change nothing, if any unit is not at its expected epoch;
        :class:`foreshard.errors.SlotIsMoving` if a key of a moving slot would be listed or delisted by anyone but that move;
        :class:`foreshard.errors.TooManyListedKeys` beyond the limit of listed keys.
        """

    def since(self, version: int) -> tuple[Publication, ...]:
        """The publications after ``version``, in order."""

    def acknowledge(self, sidecar_id: str, version: int) -> datetime:
        """Record that a sidecar answers from ``version`` (collection ``sidecars``). Return the time by the database's clock."""

    def withdraw(self, sidecar_id: str) -> None:
        """Remove a sidecar that shuts down."""

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        """(sidecars at or past ``version``, sidecars that have acknowledged since ``heard_since``)."""
