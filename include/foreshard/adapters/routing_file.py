"""The last-known-good copy of the routing table on disk, from which a sidecar (or a client) answers without MongoDB.

``folder/table.jsonl``: a line of JSON with what the table says besides its rows, lines of rows
``[key, primary, epoch, shadows]`` (partitions by their number in ``names``), and a last line with the xxh3_128 of all bytes
before it. The file is written beside, flushed to disk and renamed; the one before stays as ``previous.jsonl``. A file that is
cut off, changed or unreadable is refused: it is set aside as ``refused.jsonl``, and the one before is used. The file's time of
change is the last moment when the control database confirmed it. Addresses are written without credentials.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from foreshard.adapters.collector_pause import collector_paused
from foreshard.errors import CorruptRoutingFile
from foreshard.model import DefaultRule, Location, Partition, PartitionState, Placement, RoutingTable
from foreshard.routing.address import public_uri

FORMAT = "foreshard-routing-1"
ROWS_PER_LINE = 2_000

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
    """The file and the one before it, in ``folder``; one process writes, any may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path, self.previous = folder / "table.jsonl", folder / "previous.jsonl"
        self.refused: tuple[str, ...] = ()

    def load(self) -> SavedRouting | None:
        """Return the newest copy that is whole, None where there is none; what is refused is logged and set aside."""
        for path in (self.path, self.previous):
            try:
                with collector_paused():
                    return read_routing(path)
            except FileNotFoundError:
                continue
            except CorruptRoutingFile as error:
                self._refuse(path, error)
        return None

    def save(self, saved: SavedRouting) -> None:
        """Replace the file; the one that stood becomes the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".table.{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "wb") as file, collector_paused():
            for part in with_checksum(routing_lines(saved)):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            keep = self._folder / f".previous.{os.getpid()}"
            keep.unlink(missing_ok=True)
            os.link(self.path, keep)
            keep.replace(self.previous)
        fresh.replace(self.path)
        self.confirm(saved.confirmed_at)
        directory = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def confirm(self, moment: float) -> None:
        """Note that the control database still agreed at ``moment``."""
        if self.path.exists():
            os.utime(self.path, (moment, moment))

    def _refuse(self, path: Path, error: CorruptRoutingFile) -> None:
        log.error("%s", error)
        self.refused = (*self.refused, str(error))
        try:
            path.replace(self._folder / "refused.jsonl")
        except OSError as problem:
            log.warning("routing file %s: can't be set aside (%s)", path, problem)


def read_routing(path: Path) -> SavedRouting:
    """Read one file; raise :class:`CorruptRoutingFile` where its checksum or its form is wrong."""
    try:
        content = path.read_bytes()
        confirmed_at = path.stat().st_mtime
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptRoutingFile(str(path), f"can't be read ({error.strerror})") from error
    end = content.rfind(b"\n", 0, max(0, len(content) - 1)) + 1
    if not end or not content.endswith(b"\n"):
        raise CorruptRoutingFile(str(path), f"cut off after {len(content)} bytes")
    if content[end:] != checksum_line(xxh3_128(memoryview(content)[:end]).hexdigest()):
        raise CorruptRoutingFile(str(path), "its checksum is wrong")
    try:
        return replace(_parse(content[:end].split(b"\n")), confirmed_at=confirmed_at)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptRoutingFile(str(path), f"written by another version ({error!r})") from error


def with_checksum(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, and the checksum's line behind them."""
    digest = xxh3_128()
    for line in lines:
        digest.update(line)
        yield line
    yield checksum_line(digest.hexdigest())


def checksum_line(digest: str) -> bytes:
    """The last line of a file."""
    return b'{"xxh3_128":"' + digest.encode() + b'"}\n'


def routing_lines(saved: SavedRouting) -> Iterator[bytes]:
    """The lines of a file, without its checksum."""
    table = saved.table
    names: dict[str, int] = {}
    for partition in saved.partitions:
        names.setdefault(partition.partition_id, len(names))
    for placement in table.placements.values():
        for name in (placement.primary, *placement.shadows):
            names.setdefault(name, len(names))
    yield _line(
        {
            "format": FORMAT,
            "identity": saved.identity,
            "version": table.version,
            "published_at": table.published_at.isoformat(),
            "default_rule": [list(table.default_rule.partitions), list(table.default_rule.weights)],
            "partitions": [
                [p.partition_id, p.geographic_location, p.capacity, public_uri(p.uri), p.state.value] for p in saved.partitions
            ],
            "locations": [[place.name, place.latitude, place.longitude] for place in saved.locations],
            "names": list(names),
            "rows": len(table.placements),
        }
    )
    rows = ([p.key, names[p.primary], p.epoch, [names[s] for s in p.shadows]] for p in table.placements.values())
    while some := list(islice(rows, ROWS_PER_LINE)):
        yield _line(some)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parse(lines: list[bytes]) -> SavedRouting:
    head: dict[str, Any] = json.loads(lines[0])
    if head["format"] != FORMAT:
        raise ValueError(head["format"])
    names: list[str] = head["names"]
    placements: dict[str, Placement] = {}
    for line in lines[1:]:
        for key, primary, epoch, shadows in json.loads(line) if line else ():
            placements[key] = Placement(key, names[primary], tuple([names[s] for s in shadows]) if shadows else (), epoch)
    if len(placements) != head["rows"]:
        raise ValueError(f"{len(placements)} rows instead of {head['rows']}")
    rule = DefaultRule(tuple(head["default_rule"][0]), tuple(head["default_rule"][1]))
    table = RoutingTable(head["version"], placements, rule, datetime.fromisoformat(head["published_at"]))
    partitions = tuple(
        Partition(name, place, capacity, uri, state=PartitionState(state))
        for name, place, capacity, uri, state in head["partitions"]
    )
    return SavedRouting(head["identity"], table, partitions, tuple(Location(*place) for place in head["locations"]))
