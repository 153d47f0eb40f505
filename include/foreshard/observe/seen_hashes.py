"""A set of 64-bit hashes that grows by batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foreshard.model import BoolArray

_PARTS = 64
_RATIO = 4
"""A sorted run is merged with the one before it unless that one is more than this many times as long."""

_Hashes = npt.NDArray[np.uint64]


class SeenHashes:
    """Hashes in sorted runs, 8 bytes each. A batch costs time in proportion to its length, not to that of the set.

    The hashes are in parts, so that merging runs takes little more memory than the set.
    """

    def __init__(self) -> None:
        self._runs: list[list[_Hashes]] = [[] for _ in range(_PARTS)]
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def add(self, hashes: _Hashes) -> BoolArray:
        """Add hashes. Return which of them were not in the set, nor earlier in ``hashes``."""
        distinct, first = np.unique(hashes, return_index=True)
        new = np.zeros(len(hashes), np.bool_)
        ends = np.searchsorted(distinct, _BOUNDS).tolist()
        for part, (start, end) in enumerate(zip([0, *ends], [*ends, len(distinct)], strict=True)):
            mine = distinct[start:end]
            unseen = np.ones(len(mine), np.bool_)
            for run in self._runs[part]:
                unseen &= ~_within(mine, run)
            new[first[start:end][unseen]] = True
            self._keep(self._runs[part], mine[unseen])
            self._number += int(unseen.sum())
        return new

    def all(self) -> _Hashes:
        """Return all hashes, in no order."""
        return np.concatenate([np.zeros(0, np.uint64), *(run for runs in self._runs for run in runs)])

    @staticmethod
    def _keep(runs: list[_Hashes], added: _Hashes) -> None:
        if not len(added):
            return
        runs.append(added)
        while len(runs) > 1 and len(runs[-2]) <= _RATIO * len(runs[-1]):
            last = runs.pop()
            runs[-1] = np.sort(np.concatenate([runs[-1], last]), kind="stable")


_BOUNDS = (np.arange(1, _PARTS, dtype=np.uint64) << np.uint64(64 - _PARTS.bit_length() + 1)).astype(np.uint64)
"""The lowest hash of each part but the first."""


def _within(values: _Hashes, run: _Hashes) -> BoolArray:
    """Return which of the values are in a sorted run, which is not empty."""
    places = np.minimum(np.searchsorted(run, values), len(run) - 1)
    found: BoolArray = run[places] == values
    return found
