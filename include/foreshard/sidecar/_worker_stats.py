"""Shared memory in which each worker of a sidecar publishes its figures, so that any worker can report all of them."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from xxhash import xxh3_64_intdigest

SHARE_BYTES = 256 * 2**10
HEAD = struct.Struct("<QQ")
"""Length and xxh3_64 of the content that follows."""
TRIES = 3


class WorkerStats:
    """One slot per worker. Created before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * SHARE_BYTES)

    def write(self, worker: int, document: Mapping[str, Any]) -> None:
        """Replace a worker's document. Without its partitions if it is too long for the slot; not at all if it still is."""
        content = json.dumps(document, separators=(",", ":")).encode()
        if len(content) > SHARE_BYTES - HEAD.size:
            content = json.dumps({**document, "state": {**document["state"], "partitions": {}}}).encode()
        if len(content) <= SHARE_BYTES - HEAD.size:
            at = worker * SHARE_BYTES
            self._memory[at : at + HEAD.size + len(content)] = HEAD.pack(len(content), xxh3_64_intdigest(content)) + content

    def read(self, worker: int) -> dict[str, Any] | None:
        """Return a worker's document; None if there is none, or if it is being written."""
        for _ in range(TRIES):
            at = worker * SHARE_BYTES
            length, wanted = HEAD.unpack_from(self._memory, at)
            if not 0 < length <= SHARE_BYTES - HEAD.size:
                return None
            content = self._memory[at + HEAD.size : at + HEAD.size + length]
            if xxh3_64_intdigest(content) == wanted:
                found: dict[str, Any] = json.loads(content)
                return found
        return None

    def others(self, worker: int) -> Iterator[dict[str, Any]]:
        """Iterate over the documents of the other workers."""
        for number in range(self.workers):
            if number != worker and (found := self.read(number)) is not None:
                yield found
