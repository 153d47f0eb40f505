"""Keeps the table on disk up to date with the table that answers, and answers from the mapped file.

A table that was read row by row is packed into a new image; from then on the sidecar answers from that image's mapping. Later
changes are kept over the image in memory, and written beside it. Once there are many changes, another process packs a new image
(it needs a second for a million keys, which would delay answers here), and this process maps it. Of a sidecar's workers, one
writes; the others map what it has written.
"""

from __future__ import annotations

import logging
import subprocess
from typing import TYPE_CHECKING

from foreshard.errors import CorruptRoutingFile, TableNotPackable
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.packed import PackedPlacements
from foreshard.sidecar._service import FILE, Installed, RouteService

if TYPE_CHECKING:
    from foreshard.model import Location, Partition, RoutingTable
    from foreshard.ports.routing import PublishedImage
    from foreshard.ports.routing_file import TableWriter

CONFIRM_EVERY = 5.0
FOLLOW_EVERY = 1.0
SAVE_EVERY = 0.25
MOST_CHANGES = 10_000
"""With more changes over an image than this, or than an eighth of its keys, a new image is packed."""
FEW_CHANGES = 100

log = logging.getLogger(__name__)


class SavedCopy:
    """The saved table of one sidecar process. After ``load``, used by the follower's thread only."""

    def __init__(self, service: RouteService, file: TableWriter, *, writes: bool = True) -> None:
        self._service, self._file, self._writes = service, file, writes
        self._saved: tuple[object, ...] = ()
        self._saved_at = self._confirmed_at = float("-inf")
        self._compaction: subprocess.Popen[bytes] | None = None

    def load(self) -> bool:
        """Install the saved table. Return False if there is none."""
        saved = self._file.load()
        if saved is None:
            return False
        self._service.install_registry(saved.partitions, saved.locations)
        self._service.install_table(saved.table, saved.identity, FILE, saved.confirmed_at)
        self._saved = self._state()
        log.info("answering from the saved table, version %d, %d keys", saved.table.version, len(saved.table.placements))
        return True

    def adopt(self, image: PublishedImage, moment: float) -> RoutingTable | None:
        """Save a published image and return its table, mapped. None if it is damaged or can't be saved.

        Several processes may use one folder: the first one saves the image, and all of them map it.
        """
        try:
            table = self._file.adopt(image, *self._registry(), moment)
        except (OSError, CorruptRoutingFile) as error:
            log.warning("the packed table can't be used, its rows are read instead: %s", error)
            return None
        self._saved = (image.identity, table.version, *self._registry())
        return table

    def _registry(self) -> tuple[tuple[Partition, ...], tuple[Location, ...]]:
        return self._service.partitions, self._service.locations

    def keep(self, now: float) -> None:
        """Write changes, and map new images, if it is time to. ``now`` is a monotonic time."""
        installed = self._service.installed
        if installed is None:
            return
        if not self._writes:
            if now - self._confirmed_at >= FOLLOW_EVERY:
                self._confirmed_at = now
                self._follow(installed)
            return
        if self._compaction is not None and self._compaction.poll() is not None:
            self._compacted(self._compaction.returncode)
        if self._state() != self._saved and now - self._saved_at >= SAVE_EVERY:
            self._saved_at = now
            self._save(installed)
            self._compact_if_needed()
        elif now - self._confirmed_at >= CONFIRM_EVERY:
            self._file.confirm(installed.confirmed_at)
            self._confirmed_at = now

    def close(self) -> None:
        """Write the changes that are not saved yet."""
        installed = self._service.installed
        if self._writes and installed is not None and self._state() != self._saved:
            self._save(installed)
        if self._compaction is not None and self._compaction.poll() is None:
            self._compaction.terminate()
            self._compaction.wait()

    def _save(self, installed: Installed) -> None:
        state = self._state()
        copy = SavedRouting(installed.identity, installed.table, *self._registry(), installed.confirmed_at)
        try:
            with self._file.locked():
                self._file.save_changes(copy)
        except (OSError, TableNotPackable) as error:
            text = "the table can't be saved in %s (%s); without it, a restart needs the control database"
            log.warning(text, self._file.place, getattr(error, "strerror", None) or error)
            return
        self._saved = state
        if not isinstance(installed.table.placements, PackedPlacements):
            self._map(installed)

    def _map(self, installed: Installed) -> None:
        """Answer from the image on disk from now on, if it has the version that was just saved."""
        try:
            saved = self._file.read()
        except (OSError, CorruptRoutingFile) as error:
            log.warning("the saved table can't be mapped: %s", error)
            return
        if (saved.identity, saved.table.version) == (installed.identity, installed.table.version):
            self._service.replace_table(installed.table, saved.table)

    def _compact_if_needed(self) -> None:
        placements = self._service.table().placements
        if self._compaction is not None or not isinstance(placements, PackedPlacements):
            return
        if len(placements.changed) > max(FEW_CHANGES, min(MOST_CHANGES, placements.base.count // 8)):
            self._compaction = subprocess.Popen(self._file.compaction(), stdin=subprocess.DEVNULL)

    def _compacted(self, returned: int) -> None:
        """Map the new image, if packing it succeeded."""
        self._compaction = None
        installed = self._service.installed
        if returned or installed is None or not isinstance(installed.table.placements, PackedPlacements):
            log.warning("packing a new image failed (exit code %d); changes are kept beside the old one", returned)
            return
        if self._rebase(installed, installed.table.placements):
            self._saved = ()

    def _follow(self, installed: Installed) -> None:
        """Map the image that another worker has written, if it is a new one."""
        placements = installed.table.placements
        if not isinstance(placements, PackedPlacements):
            self._map(installed)
        elif self._file.image() not in ("", self._file.image_of(installed.table)):
            self._rebase(installed, placements)

    def _rebase(self, installed: Installed, placements: PackedPlacements) -> bool:
        """Map the image on disk, and keep newer changes over it. Return False if that is not possible."""
        try:
            saved = self._file.read()
        except (OSError, CorruptRoutingFile) as error:
            log.warning("the packed table can't be mapped: %s", error)
            return False
        base = saved.table.placements
        if saved.identity != installed.identity or not isinstance(base, PackedPlacements):
            return False
        table = installed.table
        fresh = placements.rebased(base.base)
        self._service.replace_table(table, type(table)(table.version, fresh, table.slots, table.published_at))
        log.info("mapped a new image of version %d (%s)", saved.table.version, self._file.image_of(saved.table))
        return True

    def _state(self) -> tuple[object, ...]:
        """Identifies the content of the saved copy."""
        installed = self._service.installed
        content = (installed.identity, installed.table.version) if installed else ()
        return (*content, *self._registry())
