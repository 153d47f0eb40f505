"""The routing table on disk, mapped into the memory of every process that routes from it.

``folder/table.frt`` is an image (:mod:`foreshard.routing.image`): the packed table, its keys, and a description of the rest
(version, default rule, partitions, locations). ``overlay-NAME.jsonl`` holds the changes since the image NAME was written: a
description, rows and a checksum (:mod:`foreshard.stores.files.routing_overlay`). Both are written to a temporary file, flushed
and renamed, so that a process that has mapped an old image keeps it. The previous image remains as ``previous.frt``. A
truncated, changed or unreadable image is set aside as ``refused.frt``, and the previous one is used. An image's modification
time is the last time when the control database confirmed it. Addresses are written without credentials.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foreshard.errors import CorruptRoutingFile
from foreshard.model import Location, Partition, RoutingTable
from foreshard.ports.routing import PublishedImage
from foreshard.ports.routing_file import SavedRouting, TableReader, TableWriter
from foreshard.routing.image import HEADER, Image, ImageDamaged, image_name, image_parts, keys_place, open_image
from foreshard.routing.packed import PackedPlacements, PackedTable, pack
from foreshard.stores.files.routing_description import description_of, routing_of
from foreshard.stores.files.routing_overlay import Overlay, read_overlay, write_overlay

FILES = ("table.frt", "previous.frt")
"""The current image and the previous one."""

COMPACTION = "foreshard.stores.files.routing_compaction"
FilePart = bytes | memoryview

log = logging.getLogger(__name__)


class RoutingFile(TableReader, TableWriter):
    """The current and previous image with their overlays, in ``folder``. Any process may read; a writer holds ``locked``."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        self.path, self.previous = (folder / name for name in FILES)
        self._refused: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return str(self._folder)

    @property
    def refused(self) -> tuple[str, ...]:
        return self._refused

    def load(self) -> SavedRouting | None:
        for path in (self.path, self.previous):
            try:
                return read_routing(path)
            except FileNotFoundError:
                continue
            except CorruptRoutingFile as error:
                self._refuse(path, error)
        return None

    def read(self) -> SavedRouting:
        return read_routing(self.path)

    def newest(self) -> SavedRouting | None:
        for path in (self.path, self.previous):
            try:
                return read_routing(path)
            except FileNotFoundError:
                continue
            except (OSError, CorruptRoutingFile) as error:
                log.error("%s", error)  # noqa: TRY400 (one line; the previous file is tried next)
        return None

    def newer(self, saved: SavedRouting) -> SavedRouting | None:
        placements, name = saved.table.placements, self.image_of(saved.table)
        if not isinstance(placements, PackedPlacements) or self.image() != name:
            return None
        try:
            overlay = read_overlay(self._overlay(name))
            confirmed_at = self.path.stat().st_mtime
            newer = routing_of(overlay.description, PackedPlacements(placements.base, overlay.changed), confirmed_at)
        except (OSError, CorruptRoutingFile, ValueError, KeyError, TypeError, IndexError):
            return None
        return newer if newer.partitions == saved.partitions else None

    def adopt(
        self, image: PublishedImage, partitions: tuple[Partition, ...], locations: tuple[Location, ...], moment: float
    ) -> RoutingTable:
        with self.locked():
            saved = self._saved_already(image)
            if saved is None:
                fresh = self.write(image.parts)
                saved = SavedRouting(image.identity, read_routing(fresh).table, partitions, locations, moment)
                self.keep(fresh, saved, beside=True)
        return saved.table

    def _saved_already(self, image: PublishedImage) -> SavedRouting | None:
        try:
            saved = self.read()
        except (OSError, CorruptRoutingFile):
            return None
        return saved if saved.identity == image.identity and saved.table.version >= image.version else None

    def save(self, saved: SavedRouting) -> None:
        """Pack ``saved`` into a new image. The current image becomes the previous one."""
        names = [partition.partition_id for partition in saved.partitions]
        packed = pack(saved.table.placements.values(), random_seeds(), names)
        self.keep(self.write(image_parts(packed, description_of(saved))), saved)

    def write(self, parts: Iterable[FilePart]) -> Path:
        """Write an image to a temporary path, and return the path. It can be read from there already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".table.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        with fresh.open("wb") as file:
            for part in parts:
                file.write(part)
        return fresh

    def keep(self, fresh: Path, saved: SavedRouting, *, beside: bool = False) -> None:
        """Flush an image that ``write`` has written, and make it the current one.

        ``beside``: the image lacks the description of ``saved`` (partitions, locations, …); write that into an overlay.
        """
        _flush(fresh)
        if beside and isinstance(saved.table.placements, PackedPlacements):
            write_overlay(self._overlay(_image_at(fresh)), Overlay(description_of(saved), saved.table.placements.changed))
        if self.path.is_file():
            kept = self._folder / f".previous.{os.getpid()}"
            kept.unlink(missing_ok=True)
            os.link(self.path, kept)
            kept.replace(self.previous)
        fresh.replace(self.path)
        self.confirm(saved.confirmed_at)
        self._folder_changed()
        self._drop_overlays()

    def save_changes(self, saved: SavedRouting) -> None:
        placements = saved.table.placements
        name = self.image()
        if not isinstance(placements, PackedPlacements) or not name or name != name_of(placements.base):
            self.save(saved)
            return
        write_overlay(self._overlay(name), Overlay(description_of(saved), placements.changed))
        self.confirm(saved.confirmed_at)
        self._folder_changed()

    def image(self) -> str:
        """The name of the current image; "" if there is none."""
        return _image_at(self.path)

    def confirm(self, moment: float) -> None:
        if self.path.exists():
            os.utime(self.path, (moment, moment))

    @contextmanager
    def locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def image_of(self, table: RoutingTable) -> str:
        return name_of(table.placements.base) if isinstance(table.placements, PackedPlacements) else ""

    def stamp(self) -> int:
        return stamp(self._folder)

    def compaction(self) -> tuple[str, ...]:
        return (sys.executable, "-m", COMPACTION, str(self._folder))

    def _folder_changed(self) -> None:
        """Flush the folder, and set a new modification time for :func:`stamp` (a rename sets it only to a clock tick)."""
        _flush(self._folder)
        now = time.time_ns()
        os.utime(self._folder, ns=(now, now))

    def _overlay(self, name: str) -> Path:
        return overlay_of(self._folder, name)

    def _drop_overlays(self) -> None:
        needed = {self._overlay(_image_at(path)) for path in (self.path, self.previous)}
        for path in self._folder.glob("overlay-*.jsonl"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def _refuse(self, path: Path, error: CorruptRoutingFile) -> None:
        log.error("%s", error)
        self._refused = (*self._refused, str(error))
        try:
            path.replace(self._folder / "refused.frt")
        except OSError as problem:
            log.warning("routing file %s: can't be set aside (%s)", path, problem)


def read_routing(path: Path) -> SavedRouting:
    """Map one image with its overlay. Raise :class:`CorruptRoutingFile` if a checksum or the format is wrong.

    A damaged overlay is logged and ignored: the table is then as old as its image.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if status.st_size else b"")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptRoutingFile(str(path), f"can't be read ({error.strerror})") from error
    try:
        image = open_image(content)
        found = routing_of(image.description, PackedPlacements(image.table), status.st_mtime)
    except ImageDamaged as error:
        raise CorruptRoutingFile(str(path), str(error)) from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptRoutingFile(str(path), f"written by another version ({error!r})") from error
    _release_keys(content)
    return _with_overlay(path, image, found)


def _release_keys(content: memoryview) -> None:
    """Release the memory pages of the keys. They were read for the checksum only; lookups don't use them."""
    start, end = keys_place(content)
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(content.obj, mmap.mmap) and last > first:
        content.obj.madvise(mmap.MADV_DONTNEED, first, last - first)


def _with_overlay(path: Path, image: Image, found: SavedRouting) -> SavedRouting:
    try:
        overlay = read_overlay(overlay_of(path.parent, image.name))
        return routing_of(overlay.description, PackedPlacements(image.table, overlay.changed), found.confirmed_at)
    except FileNotFoundError:
        return found
    except CorruptRoutingFile as error:
        log.error("%s; the table is as old as its image, version %d", error, found.table.version)  # noqa: TRY400
        return found


def stamp(folder: Path) -> int:
    """A number that changes with the table in ``folder``; 0 without a folder. Costs one ``stat``."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def random_seeds() -> Iterator[int]:
    """Unpredictable seeds."""
    import secrets  # needed for packing only

    while True:
        yield secrets.randbits(64)


def name_of(table: PackedTable) -> str:
    """The name of the image that a table was opened from; "" for a table in memory only."""
    owner = table.cells.obj
    return image_name(owner[: HEADER.size]) if isinstance(owner, mmap.mmap) else ""


def overlay_of(folder: Path, name: str) -> Path:
    """The path of an image's overlay."""
    return folder / f"overlay-{name}.jsonl"


def _image_at(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER.size)
    except OSError:
        return ""
    return image_name(head) if len(head) == HEADER.size else ""


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
