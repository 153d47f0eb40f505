"""Looks at a sample of a log before anything is scheduled: what is understood and quarantined, and which mapping fits."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR, READ_COLUMNS, hour_floor
from foreshard.observe.batches import ACCEPTED, RawBatch, clean_batch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.proposal import likely_columns, proposed_mapping
from foreshard.settings import SourceMapping
from foreshard.stages._ports import WithAccessLog, WithKeyType, WithLogSamples, WithObserveSettings, WithShardedCollections

if TYPE_CHECKING:
    from foreshard.ports.access_logs import FieldSample, LogPlace

SAMPLE_RECORDS = 10_000
_HIDDEN = ("user_id", "session_id")


class CheckPorts(WithAccessLog, WithObserveSettings, WithKeyType, WithShardedCollections, WithLogSamples, Protocol):
    """Reads a sample of a log. Writes nothing."""


@dataclass(frozen=True, slots=True)
class ColumnCheck:
    """What a sample has in a column: the ``field`` that it comes from, given and distinct values, and some of these."""

    column: str
    field: str
    given: int
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogCheck:
    """A sample as it would be counted. ``proposal``: a mapping, as TOML, where none was given and one is needed.

    ``fields`` are those of the log. ``reasons`` counts the records that would be quarantined. ``first`` and ``last``: times.
    """

    records: int
    accepted: int
    reasons: dict[str, int] = field(default_factory=dict)
    columns: tuple[ColumnCheck, ...] = ()
    fields: tuple[str, ...] = ()
    unknown_types: dict[str, int] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    notes: tuple[str, ...] = ()
    proposal: str | None = None


def check_log(ports: CheckPorts, log: LogPlace | None, mapping: SourceMapping | None = None) -> LogCheck:
    """Read a sample of a file, with its mapping, or of the last closed hour of the configured source (``log``: None).

    Raise :class:`CorruptLog` if the file can't be read, or its fields are neither known nor mapped.
    """
    notes: list[str] = []
    if log is None:
        batches = ports.access_log.read_hour(hour_floor(datetime.now(UTC)) - ONE_HOUR, notes.append)
        return replace(_checked(ports, batches, None, notes), notes=tuple(notes))
    sample = None if mapping and mapping.line else ports.log_sample(log)
    proposal = None if mapping or sample is None else _proposal(ports, sample)
    if mapping is None and proposal:
        mapping = SourceMapping.model_validate(tomllib.loads(proposal))
    elif mapping is None and sample is not None and not _is_standard(sample):
        found = ", ".join(sample.values) or "none"
        raise CorruptLog(str(log), f"its fields can't be guessed ({found}); name them in a mapping: docs/sources.md")
    made = _checked(ports, ports.mapped_log(log, mapping, notes.append), mapping, notes)
    return replace(made, notes=tuple(notes), proposal=proposal, fields=tuple(sample.values) if sample else ())


def _is_standard(sample: FieldSample) -> bool:
    return {"timestamp", "partitionable_key", "request_type"} <= set(sample.values)


def _proposal(ports: CheckPorts, sample: FieldSample) -> str | None:
    """Return a mapping for a log without the standard columns."""
    if _is_standard(sample):
        return None
    columns = likely_columns(sample.values)
    keys = [f"query.{collection.key_field}" for collection in ports.sharded_collections]
    queried = [name for name in (*keys, *sample.values) if name in sample.values and name.startswith("query.")]
    if sample.form == "mongodb" and queried:
        columns["partitionable_key"] = queried[0]
    return proposed_mapping(sample.form, columns, sample.values, ports.observe_settings.request_types)


def _checked(ports: CheckPorts, batches: Iterator[RawBatch], mapping: SourceMapping | None, notes: list[str]) -> LogCheck:
    """Clean up to ``SAMPLE_RECORDS`` records, and describe them."""
    records = 0
    reasons: Counter[str] = Counter()
    types: Counter[str] = Counter()
    values: dict[str, Counter[str]] = {name: Counter() for name in ACCEPTED.names}
    times: list[datetime] = []
    settings = ports.observe_settings
    until = datetime.now(UTC) + timedelta(hours=1)
    for batch in batches:
        some = batch[: SAMPLE_RECORDS - records]
        records += len(some)
        cleaned = clean_batch(some, EARLIEST, until, settings.request_types, ports.key_type)
        bad = cleaned.quarantined
        reasons.update(bad["reason"])
        types.update(bad.loc[bad["reason"] == "unknown_request_type", "request_type"])
        for name in ACCEPTED.names:
            found = cleaned.accepted.column(name).drop_null().to_pylist()
            values[name].update(map(str, found))
            times += [min(found), max(found)] if name == "timestamp" and found else []
        if records >= SAMPLE_RECORDS:
            notes.append(f"only the first {SAMPLE_RECORDS:,} records were read")
            break
    columns = tuple(_column(name, values[name], mapping) for name in READ_COLUMNS if name in values)
    accepted = records - sum(reasons.values())
    unknown = dict(types.most_common(10))
    ends: dict[str, Any] = {"first": min(times), "last": max(times)} if times else {}
    return LogCheck(records, accepted, dict(reasons.most_common()), columns, unknown_types=unknown, **ends)


def _column(name: str, values: Counter[str], mapping: SourceMapping | None) -> ColumnCheck:
    source = name if mapping is None else ", ".join(mapping.columns.get(name, ()))
    examples = ("(hidden)",) if name in _HIDDEN and values else tuple(value for value, _ in values.most_common(3))
    return ColumnCheck(name, source, values.total(), len(values), examples)
