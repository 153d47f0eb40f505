"""Learns the weights of request types from a log whose records have a cost. Changes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.errors import CorruptLog
from foreshard.model import FloatArray
from foreshard.observe.batches import clean_batch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.weights import LearnedWeight, learned_weights
from foreshard.settings import SourceMapping
from foreshard.stages._ports import WithKeyType, WithLogSamples, WithObserveSettings

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace

MOST_RECORDS = 2_000_000


class WeightPorts(WithObserveSettings, WithKeyType, WithLogSamples, Protocol):
    """Reads a log. Writes nothing."""


@dataclass(frozen=True, slots=True)
class WeightSummary:
    """What was learned from ``measured`` of the ``records`` of a log; the others have no cost, or are not readable."""

    records: int
    measured: int
    weights: tuple[LearnedWeight, ...]
    notes: tuple[str, ...] = ()

    @property
    def proposal(self) -> dict[str, float]:
        """The weight of each type: the learned one, rounded to what is known of it, else the one that is set."""
        return {one.request_type: _rounded(one) for one in self.weights}


def learn_weights(ports: WeightPorts, log: LogPlace, mapping: SourceMapping | None = None) -> WeightSummary:
    """Read up to ``MOST_RECORDS`` records of a log, and learn what an access of each type costs.

    Raise :class:`CorruptLog` if no record has a cost.
    """
    notes: list[str] = []
    costs: defaultdict[str, list[FloatArray]] = defaultdict(list)
    records, reasons = 0, Counter[str]()
    settings = ports.observe_settings
    until = datetime.now(UTC) + timedelta(hours=1)
    for batch in ports.mapped_log(log, mapping, notes.append):
        some = batch[: MOST_RECORDS - records]
        records += len(some)
        cleaned = clean_batch(some, EARLIEST, until, settings.request_types, ports.key_type)
        reasons.update(cleaned.quarantined["reason"])
        for name, found in _measured(cleaned.accepted).items():
            costs[name].append(found)
        if records >= MOST_RECORDS:
            notes.append(f"only the first {MOST_RECORDS:,} records were read")
            break
    together = {name: np.concatenate(parts) for name, parts in costs.items()}
    measured = sum(map(len, together.values()))
    if not measured:
        remedy = 'name the field that has it: columns.cost = "millis" in the mapping'
        raise CorruptLog(str(log), f"none of its {records:,} records has a cost; {remedy}")
    notes += [f"{count:,} records are left out: {reason}" for reason, count in reasons.most_common()]
    current = {name: kind.weight for name, kind in settings.request_types.items()}
    return WeightSummary(records, measured, learned_weights(together, current), tuple(notes))


def _measured(accepted: pa.Table) -> dict[str, FloatArray]:
    """Return the costs of the records that have one, by request type, in their order."""
    given = accepted.filter(pc.is_valid(accepted.column("cost")))
    names = given.column("request_type").cast(pa.string())
    costs = given.column("cost").to_numpy()
    return {name: costs[pc.equal(names, name).to_numpy()] for name in names.unique().to_pylist()}


def _rounded(one: LearnedWeight) -> float:
    """Return the weight with three significant digits; the current one where nothing was learned."""
    return one.current if one.weight is None else float(f"{one.weight:.3g}")
