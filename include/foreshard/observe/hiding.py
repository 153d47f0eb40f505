"""Hides the identities in batches of records: users and sessions, and whatever a broken record may show."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pandas as pd
import pyarrow as pa

from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.batches import ACCEPTED, CleanBatch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.pseudonym import SESSION, USER, pseudonymise, pseudonyms
from foreshard.observe.values import as_costs, as_times

_MOST_PSEUDONYMS = 2_000_000


class Pseudonyms:
    """Replaces users and sessions by their pseudonyms. Each of the last million or so is hashed once.

    ``shown_types``: the request types that the quarantine may show.
    """

    def __init__(self, key: Callable[[], bytes], shown_types: Collection[str] = ()) -> None:
        self._key, self._shown = key, frozenset(shown_types)
        self._known: dict[bytes, dict[str, str]] = {USER: {}, SESSION: {}}

    def of(self, batch: CleanBatch) -> CleanBatch:
        """Return the batch with pseudonyms."""
        accepted = batch.accepted
        for name, of in (("user_id", USER), ("session_id", SESSION)):
            coded = accepted.column(name).combine_chunks().dictionary_encode()
            names = pa.array(self._names(coded.dictionary.to_pylist(), of), pa.string())
            hidden = pa.DictionaryArray.from_arrays(coded.indices, names).cast(pa.string())
            accepted = accepted.set_column(accepted.schema.get_field_index(name), ACCEPTED.field(name), hidden)
        bad = batch.quarantined
        return CleanBatch(accepted, self._without_identities(bad) if len(bad) else bad)

    def _names(self, names: list[str], of: bytes) -> list[str]:
        known = self._known[of]
        if len(known) > _MOST_PSEUDONYMS:
            known.clear()
        new = [name for name in names if name not in known]
        if new:
            known.update(zip(new, pseudonyms(self._key, new, of), strict=True))
        return [known[name] for name in names]

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
