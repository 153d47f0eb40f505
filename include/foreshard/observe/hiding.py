"""Hides the identities in batches of records: users and sessions, and whatever a broken record may show."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pandas as pd
import pyarrow as pa

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.batches import CleanBatch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.pseudonym import SESSION, USER, pseudonymise, pseudonyms
from foreshard.observe.values import as_costs, as_times

_MOST_PSEUDONYMS = 1_000_000


class _Known:
    """Names that were hashed, in categories of their own, whose numbers are the places of their pseudonyms."""

    def __init__(self) -> None:
        import polars as pl

        self._alive = pl.Series(dtype=pl.Categorical(pl.Categories.random()))  # Polars forgets categories without a series
        self._hidden = pl.Series(dtype=pl.String)

    def __len__(self) -> int:
        return len(self._hidden)

    def of(self, names: pa.StringArray, hide: Callable[[list[str]], list[str]]) -> pa.StringArray:
        """Return the pseudonyms of distinct names, in their order. ``hide``: gives those of new names."""
        import polars as pl

        given = pl.Series(names, dtype=pl.String)
        numbers = given.cast(self._alive.dtype).to_physical()
        last: Any = numbers.max()
        if last is not None and last >= len(self):
            self._hidden = self._hidden.extend_constant(None, last + 1 - len(self)).rechunk()
        new = self._hidden.gather(numbers).is_null()
        if new.any():
            self._hidden = self._hidden.scatter(numbers.filter(new), hide(given.filter(new).to_list()))
        return self._hidden.gather(numbers).to_arrow().cast(pa.string())


class Pseudonyms:
    """Replaces users and sessions by their pseudonyms. Each of the last million is hashed once.

    ``shown_types``: the request types that the quarantine may show.
    """

    def __init__(self, key: Callable[[], bytes], shown_types: Collection[str] = ()) -> None:
        self._key, self._shown = key, frozenset(shown_types)
        self._known: dict[bytes, _Known] = {}

    def of(self, batch: CleanBatch) -> CleanBatch:
        """Return the batch with pseudonyms, those of accepted records as dictionaries."""
        accepted = batch.accepted
        for name, of in (("user_id", USER), ("session_id", SESSION)):
            coded = accepted.column(name).chunk(0)
            hidden = pa.DictionaryArray.from_arrays(coded.indices, self._names(coded.dictionary, of))
            accepted = accepted.set_column(accepted.schema.get_field_index(name), name, hidden)
        bad = batch.quarantined
        return CleanBatch(accepted, self._without_identities(bad) if len(bad) else bad)

    def _names(self, names: pa.StringArray, of: bytes) -> pa.StringArray:
        """Return the pseudonyms of distinct names, in their order."""
        known = self._known.get(of)
        if known is None or len(known) > _MOST_PSEUDONYMS:
            known = self._known[of] = _Known()
        return known.of(names, lambda new: pseudonyms(self._key, new, of))

    def _without_identities(self, bad: pd.DataFrame) -> pd.DataFrame:
        """Hide every value that may be an identity: the columns of a broken record may be shifted.

        Plausible times, known request types and negative costs are shown. The record's source says where its values are.
        """
        times = as_times(bad["timestamp"])
        plausible = (times >= EARLIEST) & (times < pd.Timestamp.now("UTC") + pd.Timedelta(days=1))
        shown = {
            "timestamp": plausible.to_numpy(),
            "request_type": bad["request_type"].isin(self._shown).to_numpy(),
            "cost": (as_costs(bad["cost"])[0] < 0).to_numpy(),
        }
        columns = {}
        for name in ACCESS_LOG_COLUMNS:
            hidden = pseudonymise(bad[name], self._key, SESSION if name == "session_id" else USER)
            columns[name] = bad[name].where(shown[name], hidden) if name in shown else hidden
        return bad.assign(**columns)
