"""What an executor of a cluster does: reads a bundle of parts by the code that also reads them in one process."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import ConfigurationError, ForeshardError
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.reading import HourRules, RecordCleaner
from foreshard.stores.files.log_parts import PartFound, PartReading, SourcePart
from foreshard.stores.files.log_splitting import lines_in
from foreshard.stores.files.raw_hours import HourPart, HourPartWriter

BUNDLE_BYTES = 64 * 2**20
"""Small files are read together, up to so many bytes. Large Parquet files are split into parts of about so many."""
BUNDLE, HASH = "bundle", "hash"
NOTHING = HourPart(None, None)


@dataclass(frozen=True)
class Bundle:
    """Successive parts that one executor reads. ``unseen``: the places of those that the task itself does not see."""

    number: int
    parts: tuple[SourcePart, ...]
    unseen: frozenset[str]


@dataclass(frozen=True)
class BundleWork:
    """How bundles are read, and the folder where their records are written. ``late``: the folder with ids to be dropped.

    ``key``: the secret key of pseudonyms, or why there is none.
    """

    rules: HourRules
    folder: Path
    key: bytes | ConfigurationError = field(repr=False)
    late: Path | None = None

    def user_key(self) -> bytes:
        """Return the secret key. Raise :class:`ConfigurationError` without one."""
        if isinstance(self.key, bytes):
            return self.key
        raise self.key


@dataclass(frozen=True)
class BundleRead:
    """What was read: the facts about each part, the records, and a file of their ids. ``error``: why it ended early."""

    number: int
    found: tuple[PartFound, ...]
    records: HourPart = NOTHING
    duplicates: int = 0
    ids: Path | None = None
    error: ForeshardError | None = None


def bundles_of(parts: Sequence[SourcePart], most: int) -> list[Bundle]:
    """Return parts in bundles of at most ``most`` bytes, in order. A part of a file is a bundle by itself."""
    groups: list[list[SourcePart]] = []
    size = 0
    for part in parts:
        alone = part.piece is not None
        if not groups or alone or groups[-1][-1].piece is not None or size + part.size > most:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += part.size
    unseen = frozenset(part.place for part in parts if not part.is_there())
    return [Bundle(number, tuple(group), unseen & {part.place for part in group}) for number, group in enumerate(groups)]


def read_bundle(work: BundleWork, bundle: Bundle) -> BundleRead:
    """Read the records of a bundle into the folder. What this process would raise is returned."""
    late = None if work.late is None else _late_ids(work.late, bundle.number)
    cleaner = RecordCleaner(work.rules, work.user_key, SeenRecords(late))
    writer = HourPartWriter(work.folder)
    found: list[PartFound] = []
    try:
        for part in bundle.parts:
            _require_file(part, bundle)
            reading = PartReading(part, work.rules.hour)
            for batch in reading.batches():
                cleaned = cleaner.clean(batch)
                writer.add(cleaned.accepted, cleaned.quarantined)
            found.append(reading.found)
        ids = _write_ids(work.folder, bundle.number, cleaner.seen.hashes()) if late is None else None
        return BundleRead(bundle.number, tuple(found), writer.done(), cleaner.seen.dropped, ids)
    except ForeshardError as error:
        return BundleRead(bundle.number, tuple(found), error=error)
    finally:
        writer.close()


def count_lines(_work: None, part: SourcePart) -> int:
    """Return the number of lines of a part."""
    return lines_in(part)


def _require_file(part: SourcePart, bundle: Bundle) -> None:
    if part.place not in bundle.unseen and not part.is_there():
        problem = f"the executor on {socket.gethostname()} does not see {part.place}"
        remedy = "put the logs on storage that all executors reach under the same path, or choose the engine polars"
        raise ConfigurationError("FORESHARD_OBSERVE__ACCESS_LOG_PATHS", problem, remedy)


def _write_ids(folder: Path, number: int, hashes: npt.NDArray[np.uint64]) -> Path | None:
    """Write the hashes of the ids of a bundle; None without one."""
    if not len(hashes):
        return None
    path = folder / f"{uuid4().hex}.ids.parquet"
    numbers = pa.array(np.full(len(hashes), number, np.int32))
    pq.write_table(pa.table({BUNDLE: numbers, HASH: pa.array(hashes.view(np.int64))}), path)
    return path


def _late_ids(folder: Path, number: int) -> npt.NDArray[np.uint64]:
    """Return the hashes of those ids of a bundle that an earlier bundle has too."""
    files = sorted((folder / f"{BUNDLE}={number}").glob("*.parquet"))
    found = pa.concat_tables([pq.ParquetFile(file).read([HASH]) for file in files])
    return np.asarray(found.column(HASH).to_numpy()).view(np.uint64)
