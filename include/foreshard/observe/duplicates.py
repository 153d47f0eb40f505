"""Drops records that were delivered twice: those with the ``record_id`` of an earlier one. Records without an id are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import RECORD_ID, BoolArray
from foreshard.observe.batches import RawBatch, rows_of
from foreshard.observe.values import as_text

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


class SeenRecords:
    """The ids of the records so far, as 64-bit hashes: 8 bytes a record.

    Two of 100 million different ids share a hash with a probability of 1 in 3,700; one record would then be dropped.
    ``hashes``: of ids that were seen elsewhere.
    """

    def __init__(self, hashes: _Hashes | None = None) -> None:
        self._seen = SeenHashes()
        self.dropped = 0
        if hashes is not None:
            self._seen.add(hashes)

    def hashes(self) -> _Hashes:
        """Return the hashes of the ids so far."""
        return self._seen.all()

    def without_duplicates(self, batch: RawBatch) -> RawBatch:
        """Return the records of a batch that were not seen before, and remember them."""
        names = batch.columns if isinstance(batch, pd.DataFrame) else batch.column_names
        if RECORD_ID not in names:
            return batch
        ids = batch[RECORD_ID] if isinstance(batch, pd.DataFrame) else batch.column(RECORD_ID).to_pandas()
        text = as_text(ids).values
        given = text.notna().to_numpy(np.bool_)
        if not given.any():
            return batch
        hashes = pd.util.hash_array(text.to_numpy(dtype=object)[given], categorize=False)
        new = np.ones(len(batch), np.bool_)
        new[given] = self._seen.add(hashes)
        self.dropped += len(new) - int(new.sum())
        return rows_of(batch, new)
