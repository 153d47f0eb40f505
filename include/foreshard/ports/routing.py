"""How routing tables are published and read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.model import DefaultRule, Placement, PlacementChange, RoutingTable


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the routing table: its changes, cause and time. ``default_rule``: if this version set it.

    ``before``: the previous placement of each change's key, in the order of the changes (None: the key was not listed).
    """

    version: int
    changes: tuple[PlacementChange, ...]
    cause: str
    published_at: datetime
    default_rule: DefaultRule | None = None
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
    ) -> int:
        """Apply all changes in one transaction, and return the new version (the current one if ``changes`` is empty).

        ``within(session, version)`` runs inside the same transaction (a move's journal entry). Raise
        :class:`foreshard.errors.StaleEpoch`, and change nothing, if any key is not at its expected epoch.
        """

    def since(self, version: int) -> tuple[Publication, ...]:
        """The publications after ``version``, in order."""

    def set_default_rule(self, rule: DefaultRule) -> int:
        """Publish a new default rule, and return the version. Unlisted keys that it reassigns must have been moved before."""

    def acknowledge(self, sidecar_id: str, version: int) -> None:
        """Record that a sidecar answers from ``version`` (collection ``sidecars``)."""

    def withdraw(self, sidecar_id: str) -> None:
        """Remove a sidecar that shuts down."""

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        """(sidecars at or past ``version``, sidecars that have acknowledged since ``heard_since``)."""
