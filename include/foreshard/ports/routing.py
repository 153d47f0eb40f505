"""How routing tables are published and followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.model import DefaultRule, Placement, PlacementChange, RoutingTable


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the routing table: what changed, why, and when; ``default_rule`` where this version set it.

    ``before``: what stood for each change's key, in the order of the changes (None: it was not listed).
    """

    version: int
    changes: tuple[PlacementChange, ...]
    cause: str
    published_at: datetime
    default_rule: DefaultRule | None = None
    before: tuple[Placement | None, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedImage:
    """The packed form of a table at ``version``; ``parts``, in order, are read from the database as they are asked for."""

    identity: str
    version: int
    parts: Iterable[bytes]


class RoutingStore(Protocol):
    """The routing table and its versions (``routing_table``, ``routing_versions``)."""

    def initialise(self, table: RoutingTable) -> None:
        """Publish the first version; do nothing where the same version stands already."""

    def version(self) -> int:
        """The current version (0 where nothing is published)."""

    def head(self) -> tuple[int, str]:
        """(version, a name that a table keeps through its versions and no other table has); (0, "") without a table."""

    def current(self) -> RoutingTable:
        """The whole table as of one moment; raise :class:`foreshard.errors.NoRoutingTable` where nothing is published."""

    def image(self) -> PublishedImage | None:
        """The newest packed form, which ``since`` its version brings up to date; None where there is none."""

    def repack(self) -> int:
        """Publish the packed form of the table as it is; return its version."""

    def publish(
        self,
        changes: Sequence[PlacementChange],
        cause: str,
        *,
        within: Callable[[Any, int], None] | None = None,
    ) -> int:
        """Apply all changes in one transaction and return the new version (unchanged where ``changes`` is empty).

        ``within(session, version)`` runs inside the same transaction (a move's journal entry). Raise
        :class:`foreshard.errors.StaleEpoch` where any key is not at its expected epoch; then nothing is changed.
        """

    def since(self, version: int) -> tuple[Publication, ...]:
        """The publications after ``version``, in order."""

    def set_default_rule(self, rule: DefaultRule) -> int:
        """Publish a new default rule and return the version; unlisted keys that it moves must have been moved before."""

    def acknowledge(self, sidecar_id: str, version: int) -> None:
        """Note that a sidecar answers from ``version`` now (``sidecars``)."""

    def withdraw(self, sidecar_id: str) -> None:
        """Forget a sidecar that stops answering on purpose."""

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        """(sidecars at or past ``version``, sidecars heard of since ``heard_since``)."""
