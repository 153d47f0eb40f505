"""Hides the identities in batches of records: users and sessions, and whatever a broken record may show."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.batches import CleanBatch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.pseudonym import SESSION, USER, pseudonymise, pseudonyms
from foreshard.observe.values import as_costs, as_times

if TYPE_CHECKING:
    import polars as pl

_MOST_PSEUDONYMS = 1_000_000


class Pseudonyms:
    """Replaces users and sessions by their pseudonyms. Each of the last million is hashed once.

    ``shown_types``: the request types that the quarantine may show.
    """

    def __init__(self, key: Callable[[], bytes], shown_types: Collection[str] = ()) -> None:
        self._key, self._shown = key, frozenset(shown_types)
        self._known: dict[bytes, pl.DataFrame] = {}

    def of(self, batch: CleanBatch) -> CleanBatch:
        """Return the batch with pseudonyms, those of accepted records as dictionaries."""
        accepted = batch.accepted
        for name, of in (("user_id", USER), ("session_id", SESSION)):
            coded = accepted.column(name).combine_chunks().dictionary_encode()
            hidden = pa.DictionaryArray.from_arrays(coded.indices, self._names(coded.dictionary, of))
            accepted = accepted.set_column(accepted.schema.get_field_index(name), name, hidden)
        bad = batch.quarantined
        return CleanBatch(accepted, self._without_identities(bad) if len(bad) else bad)

    def _names(self, names: pa.StringArray, of: bytes) -> pa.StringArray:
        """Return the pseudonyms of distinct names, in their order."""
        import polars as pl

        given = pl.DataFrame({"name": pl.Series(names, dtype=pl.String)})
        known = self._known.get(of)
        if known is None or len(known) > _MOST_PSEUDONYMS:
            known = pl.DataFrame(schema={"name": pl.String, "hidden": pl.String})
        hidden = given.join(known, on="name", how="left", maintain_order="left")["hidden"]
        new = hidden.is_null()
        unknown = given["name"].filter(new).to_list()
        made = pl.DataFrame({"name": unknown, "hidden": pseudonyms(self._key, unknown, of)}, schema=known.schema)
        self._known[of] = pl.concat([known, made], rechunk=True)
        return hidden.scatter(new.arg_true(), made["hidden"]).to_arrow().cast(pa.string())

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
