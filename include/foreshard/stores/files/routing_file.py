"""The last-known-good copy of the routing table on disk, mapped into the memory of every process that answers from it.

``folder/table.frt`` is an image (:mod:`foreshard.routing.image`): the packed table, its keys, and a description of everything
else (version, default rule, partitions, locations). Beside it, ``overlay-NAME.jsonl`` holds what has changed since the image
called NAME was written, in the same terms: a description, rows, and a checksum (:mod:`foreshard.stores.files.routing_overlay`).
Either is written beside, flushed to disk and renamed, so that a process that has mapped the old one keeps it; the image
before stays as ``previous.frt``. An image that is cut off, changed or unreadable is refused: it is set aside as
``refused.frt``, and the one before is used. The image's time of change is the last moment when the control database confirmed
it. Addresses are written without credentials.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from foreshard.errors import CorruptRoutingFile
from foreshard.model import DefaultRule, Location, Partition, PartitionState, Placement, RoutingTable
from foreshard.routing.address import public_uri
from foreshard.routing.image import HEADER, Image, ImageDamaged, image_name, image_parts, keys_place, open_image
from foreshard.routing.packed import PackedPlacements, PackedTable, pack
from foreshard.stores.files.routing_overlay import Overlay, read_overlay, write_overlay

FILES = ("table.frt", "previous.frt")
"""The image and the one before it, in the folder."""

FilePart = bytes | memoryview

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedRouting:
    """What a router needs to answer alone; ``confirmed_at``: seconds since 1970 when the control database last agreed."""

    identity: str
    table: RoutingTable
    partitions: tuple[Partition, ...]
    locations: tuple[Location, ...]
    confirmed_at: float = 0.0


class RoutingFile:
    """The image, the one before it and their overlays, in ``folder``; any process may read, and who writes takes ``locked``."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        self.path, self.previous = (folder / name for name in FILES)
        self.refused: tuple[str, ...] = ()

    def load(self) -> SavedRouting | None:
        """Return the newest copy that is whole, None where there is none; what is refused is logged and set aside."""
        for path in (self.path, self.previous):
            try:
                return read_routing(path)
            except FileNotFoundError:
                continue
            except CorruptRoutingFile as error:
                self._refuse(path, error)
        return None

    def save(self, saved: SavedRouting) -> None:
        """Pack all of ``saved`` into a new image; the one that stood becomes the one before."""
        names = [partition.partition_id for partition in saved.partitions]
        packed = pack(saved.table.placements.values(), random_seeds(), names)
        self.keep(self.write(image_parts(packed, description_of(saved))), saved)

    def write(self, parts: Iterable[FilePart]) -> Path:
        """Write an image beside the one that stands; return its path, from which it can be read already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".table.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        with fresh.open("wb") as file:
            for part in parts:
                file.write(part)
        return fresh

    def keep(self, fresh: Path, saved: SavedRouting, *, beside: bool = False) -> None:
        """Flush an image that ``write`` has written, and put it in the place of the one that stands.

        ``beside``: what ``saved`` says besides the image's rows (its partitions, say) is not in the image; write it beside.
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
        """Write what ``saved`` has over its image beside it, where that image stands; otherwise pack all of it."""
        placements = saved.table.placements
        name = self.image()
        if not isinstance(placements, PackedPlacements) or not name or name != name_of(placements.base):
            self.save(saved)
            return
        write_overlay(self._overlay(name), Overlay(description_of(saved), placements.changed))
        self.confirm(saved.confirmed_at)
        self._folder_changed()

    def image(self) -> str:
        """The name of the image that stands, "" where there is none."""
        return _image_at(self.path)

    def confirm(self, moment: float) -> None:
        """Note that the control database still agreed at ``moment``."""
        if self.path.exists():
            os.utime(self.path, (moment, moment))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off other processes that write here."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _folder_changed(self) -> None:
        """Flush the folder, and give it a time that :func:`stamp` has not seen (renaming sets it to the last tick's)."""
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
        self.refused = (*self.refused, str(error))
        try:
            path.replace(self._folder / "refused.frt")
        except OSError as problem:
            log.warning("routing file %s: can't be set aside (%s)", path, problem)


def read_routing(path: Path) -> SavedRouting:
    """Map one image, with its overlay; raise :class:`CorruptRoutingFile` where a checksum or the form is wrong.

    An overlay that is damaged is left out, loudly: the table is then as old as its image.
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
    _give_keys_back(content)
    return _with_overlay(path, image, found)


def _give_keys_back(content: memoryview) -> None:
    """Let go of the pages with the keys' own bytes, which were read to check them and which lookups don't need."""
    start, end = keys_place(content)
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if isinstance(content.obj, mmap.mmap) and last > first:
        content.obj.madvise(mmap.MADV_DONTNEED, first, last - first)


def _with_overlay(path: Path, image: Image, found: SavedRouting) -> SavedRouting:
    beside = overlay_of(path.parent, image.name)
    try:
        overlay = read_overlay(beside)
        return routing_of(overlay.description, PackedPlacements(image.table, overlay.changed), found.confirmed_at)
    except FileNotFoundError:
        return found
    except CorruptRoutingFile as error:
        log.error("%s; the table is as old as its image, version %d", error, found.table.version)  # noqa: TRY400
        return found


def stamp(folder: Path) -> int:
    """A number that changes whenever ``folder`` holds another table, 0 without a folder; one call to ``stat``."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def random_seeds() -> Iterator[int]:
    """Seeds that nobody can know beforehand."""
    import secrets  # only who packs needs it

    while True:
        yield secrets.randbits(64)


def name_of(table: PackedTable) -> str:
    """The name of the image that a table was opened from; "" for one that stands in memory only."""
    owner = table.slots.obj
    return image_name(owner[: HEADER.size]) if isinstance(owner, mmap.mmap) else ""


def overlay_of(folder: Path, name: str) -> Path:
    """Where the changes since an image stand."""
    return folder / f"overlay-{name}.jsonl"


def description_of(saved: SavedRouting) -> dict[str, Any]:
    """Everything of ``saved`` but its rows, as JSON."""
    table = saved.table
    return {
        "identity": saved.identity,
        "version": table.version,
        "published_at": table.published_at.isoformat(),
        "default_rule": [list(table.default_rule.partitions), list(table.default_rule.weights)],
        "partitions": [
            [p.partition_id, p.geographic_location, p.capacity, public_uri(p.uri), p.state.value] for p in saved.partitions
        ],
        "locations": [[place.name, place.latitude, place.longitude, place.round_trips] for place in saved.locations],
    }


def routing_of(description: Mapping[str, Any], placements: Mapping[str, Placement], confirmed_at: float) -> SavedRouting:
    """The routing that :func:`description_of` describes, with these placements."""
    about = description
    rule = DefaultRule(tuple(about["default_rule"][0]), tuple(about["default_rule"][1]))
    table = RoutingTable(about["version"], placements, rule, datetime.fromisoformat(about["published_at"]))
    partitions = tuple(
        Partition(name, place, capacity, uri, state=PartitionState(state))
        for name, place, capacity, uri, state in about["partitions"]
    )
    locations = tuple(
        Location(name, latitude, longitude, tuple((to, ms) for to, ms in round_trips))
        for name, latitude, longitude, round_trips in ((*place, ())[:4] for place in about["locations"])
    )
    return replace(SavedRouting(about["identity"], table, partitions, locations), confirmed_at=confirmed_at)


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
