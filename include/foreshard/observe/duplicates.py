"""Drops records that were delivered twice: those with the ``record_id`` of an earlier one. Records without an id are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import RECORD_ID
from foreshard.observe.batches import RawBatch, rows_of
from foreshard.observe.seen_hashes import SeenHashes
from foreshard.observe.values import as_text


class SeenRecords:
    """The ids of the records so far, as 64-bit hashes: 8 bytes a record.

    Two of 100 million different ids share a hash with a probability of 1 in 3,700; one record would then be dropped.
    ``hashes``: of ids that were seen elsewhere.
    """

    def __init__(self, hashes: npt.NDArray[np.uint64] | None = None) -> None:
        self._seen = SeenHashes()
        self.dropped = 0
        if hashes is not None:
            self._seen.add(hashes)

    def hashes(self) -> npt.NDArray[np.uint64]:
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
