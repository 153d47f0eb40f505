"""The routing table on disk, and the loads and freshness beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from foreshard.model import Location, Partition, PartitionLoad, RoutingTable
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.routing import PublishedImage


@dataclass(frozen=True, slots=True)
class SavedRouting:
    """Everything that routing needs. ``confirmed_at``: when the control database last confirmed it (seconds since 1970)."""

    identity: str
    table: RoutingTable
    partitions: tuple[Partition, ...]
    locations: tuple[Location, ...]
    confirmed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveClock:
    """What a sidecar knows of time. Monotonic times can be compared while ``boot`` is the same.

    ``ahead``: how far the control database's clock is ahead of the monotonic clock, at most. ``confirmed``: the monotonic time
    at which the control database confirmed ``version`` as the newest table.
    """

    boot: str
    ahead: float
    confirmed: float
    version: int


@dataclass(frozen=True, slots=True)
class LiveRouting:
    """``caught_up_at``: (key, partition) → time by the control database's clock up to which that shadow has all writes.

    ``applied_to``: the same as a cluster time of the shadow's source, where it is known.
    """

    loads: tuple[PartitionLoad, ...] = ()
    caught_up_at: Mapping[tuple[str, str], float] = field(default_factory=dict)
    clock: LiveClock | None = None
    applied_to: Mapping[tuple[str, str], ClusterTime] = field(default_factory=dict)


class TableReader(Protocol):
    """Reads the saved table in a process that must not change it."""

    @property
    def place(self) -> str:
        """The folder, for messages."""

    def newest(self) -> SavedRouting | None:
        """Map the newest undamaged image. None if there is none; a damaged one is logged."""

    def newer(self, saved: SavedRouting) -> SavedRouting | None:
        """Return ``saved`` with the newest changes, without mapping its image again.

        None if the folder has another image or other partitions: call ``newest`` then.
        """

    def stamp(self) -> int:
        """A number that changes with the saved table; 0 without one. Costs one ``stat``."""


class TableWriter(Protocol):
    """Keeps the saved table. Any number of processes may use one folder."""

    @property
    def place(self) -> str:
        """The folder, for messages."""

    @property
    def refused(self) -> Sequence[str]:
        """Why files were refused by ``load``."""

    def load(self) -> SavedRouting | None:
        """Return the newest undamaged copy; None if there is none. A damaged one is logged and set aside."""

    def read(self) -> SavedRouting:
        """Map the current image. Raise OSError or :class:`foreshard.errors.CorruptRoutingFile`."""

    def adopt(
        self, image: PublishedImage, partitions: tuple[Partition, ...], locations: tuple[Location, ...], moment: float
    ) -> RoutingTable:
        """Save a published image, unless it is saved already, and return its table, mapped.

        Raise OSError or :class:`foreshard.errors.CorruptRoutingFile`.
        """

    def save_changes(self, saved: SavedRouting) -> None:
        """Write the changes of ``saved`` over its image into an overlay. Pack a new image if its image is not current."""

    def confirm(self, moment: float) -> None:
        """Record that the control database confirmed the table at ``moment``."""

    def image(self) -> str:
        """The name of the current image; "" if there is none."""

    def image_of(self, table: RoutingTable) -> str:
        """The name of the image that a table is mapped from; "" for a table in memory only."""

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other writers of this folder."""

    def compaction(self) -> Sequence[str]:
        """The command that packs the image and its overlay into a new image."""


class LiveRoutingStore(Protocol):
    """Loads and freshness beside the saved table. Several processes may write them; the last one wins."""

    def write(self, live: LiveRouting) -> None:
        """Replace the file. Raises OSError."""

    def read(self) -> LiveRouting:
        """Read the file. Raise OSError or ValueError."""

    def stamp(self) -> int:
        """A number that changes with the file; 0 without a file."""
