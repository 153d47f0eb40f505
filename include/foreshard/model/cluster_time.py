"""A moment in the oplog of one partition's replica set."""

from __future__ import annotations

from typing import NamedTuple


class ClusterTime(NamedTuple):
    """A cluster time of ``partition``: (seconds, increment), as its servers count. Only times of one partition compare.

    No wall clock is read from it: it only says what came before what.
    """

    partition: str
    seconds: int
    increment: int

    def covers(self, other: ClusterTime) -> bool:
        """Whether everything up to ``other`` is before this time. False if the other is another partition's."""
        return self.partition == other.partition and self[1:] >= other[1:]
