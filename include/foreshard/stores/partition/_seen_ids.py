"""Finds document ids that occur more than once, in bounded memory: 64-bit hashes in buckets that spill to disk."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

Hashes = np.ndarray[Any, Any]
BUCKETS = 16
BUFFERED = 65_536
"""Hashes per bucket that are held in memory."""


class SeenIds:
    """Collects ids; ``repeated`` reads one bucket at a time. Each bucket buffers at most half a MiB."""

    def __init__(self) -> None:
        self._buffers = [array("Q") for _ in range(BUCKETS)]
        self._files = [tempfile.TemporaryFile() for _ in range(BUCKETS)]  # noqa: SIM115 - closed in __exit__

    @staticmethod
    def hash(identity: bytes) -> int:
        """Return the hash that ``repeated`` returns for an id."""
        return xxh3_64_intdigest(identity)

    def add(self, identity: bytes) -> None:
        """Add one id."""
        value = self.hash(identity)
        buffer = self._buffers[value % BUCKETS]
        buffer.append(value)
        if len(buffer) >= BUFFERED:
            self._spill(value % BUCKETS)

    def repeated(self) -> frozenset[int]:
        """Return the hashes that were added more than once."""
        return frozenset(value for values, counts in self._counted() for value in values[counts > 1].tolist())

    def distinct(self) -> int:
        """Return the number of different ids."""
        return sum(len(values) for values, _ in self._counted())

    def _counted(self) -> Iterator[tuple[Hashes, Hashes]]:
        """Yield the different hashes of each bucket, and how often each was added."""
        for bucket, file in enumerate(self._files):
            self._spill(bucket)
            file.seek(0)
            yield np.unique(np.frombuffer(file.read(), dtype=np.uint64), return_counts=True)

    def _spill(self, bucket: int) -> None:
        self._buffers[bucket].tofile(self._files[bucket])
        self._files[bucket].flush()
        self._buffers[bucket] = array("Q")

    def __enter__(self) -> SeenIds:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Delete the files."""
        for file in self._files:
            file.close()
