"""Key profiles from the history: the share of reads, their origins, and the cost of an access."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foreshard.measure.demand import OriginShares
from foreshard.model import FloatArray, RequestKind


@dataclass(frozen=True)
class KeyProfiles:
    """For each key: ``read_share`` of its cost (K), ``access_cost`` (K; 0 if never seen), and the ``origins`` of its reads.

    Origins are indices into ``locations``. A key without reads has the origins of all its accesses.
    """

    read_share: FloatArray
    access_cost: FloatArray
    origins: OriginShares
    locations: tuple[str, ...]


def profile_keys(
    rows: pd.DataFrame, keys: Sequence[str], kinds: Mapping[str, RequestKind], places: Collection[str] | None = None
) -> KeyProfiles:
    """Sum rows of load (``partitionable_key, location, request_type, count, cost``) into profiles of ``keys``.

    Request types that are not in ``kinds`` count as writes, the safe choice for shadowing. Accesses without a location, or with
    a location that is not in ``places`` (None: all are known), do not count in ``origins``.
    """
    key = pd.Index(list(keys), dtype=object).get_indexer(pd.Index(rows["partitionable_key"], dtype=object)).astype(np.int64)
    rows, key = rows[key >= 0], key[key >= 0]
    cost, count = rows["cost"].to_numpy(np.float64), rows["count"].to_numpy(np.float64)
    reads = rows["request_type"].map(lambda name: kinds.get(name) is RequestKind.READ).to_numpy(bool)
    spent = np.bincount(key, weights=cost, minlength=len(keys))
    read = np.bincount(key, weights=cost * reads, minlength=len(keys))
    accesses = np.bincount(key, weights=count, minlength=len(keys))
    place, names = pd.factorize(rows["location"], sort=True)
    located = place >= 0 if places is None else rows["location"].isin(list(places)).to_numpy(bool)
    placed = located & (reads | (read[key] == 0))
    return KeyProfiles(
        read_share=np.divide(read, spent, out=np.zeros(len(keys)), where=spent > 0),
        access_cost=np.divide(spent, accesses, out=np.zeros(len(keys)), where=accesses > 0),
        origins=OriginShares.build(key[placed], place[placed], cost[placed], len(keys)),
        locations=tuple(str(name) for name in names),
    )
