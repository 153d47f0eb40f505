"""Which documents a TTL index has expired, or will expire soon (pure).

A TTL index deletes a document some time after a date in it; of an array, the earliest date counts
(https://www.mongodb.com/docs/manual/core/index-ttl/). Each partition's monitor does that by itself about once a minute, so two
equal copies expire at different moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import DatetimeMS

SOON = timedelta(minutes=1)
"""The monitor's interval. A document that expires within it may be deleted on one side before it is on the other."""


@dataclass(frozen=True, slots=True)
class ExpiryRule:
    """A document expires ``after_ms`` after the date in ``field``."""

    field: str
    after_ms: int


def expiry_rules(indexes: Iterable[Mapping[str, Any]]) -> tuple[ExpiryRule, ...]:
    """Return the rules of a collection's TTL indexes.

    The filter of a partial index is left out: a document that it may expire counts as one that it expires.
    """
    return tuple(
        ExpiryRule(next(iter(index["key"])), _milliseconds(index["expireAfterSeconds"]))
        for index in indexes
        if "expireAfterSeconds" in index
    )


def is_expired(rules: Iterable[ExpiryRule], document: Mapping[str, Any], now: datetime) -> bool:
    """Return whether one of the rules has expired the document, or will within ``SOON`` of ``now``."""
    limit = _since_epoch(now + SOON)
    return any(date + rule.after_ms <= limit for rule in rules for date in _dates(document, rule.field.split(".")))


def still_there(rules: Iterable[ExpiryRule], now: datetime) -> dict[str, Any]:
    """Return the filter of documents for which ``is_expired`` is false."""
    limit = _since_epoch(now + SOON)
    expired = [{rule.field: {"$lte": DatetimeMS(limit - rule.after_ms)}} for rule in rules]
    return {"$nor": expired} if expired else {}


def _dates(value: Any, path: Sequence[str]) -> Iterator[int]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for each in value:
            yield from _dates(each, path)
    elif path:
        if isinstance(value, Mapping) and path[0] in value:
            yield from _dates(value[path[0]], path[1:])
    elif isinstance(value, datetime):
        yield _since_epoch(value)
    elif isinstance(value, DatetimeMS):
        yield int(value)


def _milliseconds(seconds: float) -> int:
    """Return seconds as milliseconds. MongoDB takes NaN for 0 (or for no expiry, in some versions)."""
    return 0 if seconds != seconds else int(seconds) * 1000


def _since_epoch(at: datetime) -> int:
    return round(at.timestamp() * 1000)
