"""What a read asks of each partition. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from foreshard.client._keys import narrowed
from foreshard.client.routing.routes import Route
from foreshard.errors import KeyMovedWhileReading
from foreshard.model import ShardedCollection
from foreshard.routing.homes import Home
from foreshard.routing.table import locate
from foreshard.stores.partition.fences.home_filter import hashes_filter, home_filter

LONGEST_KEY_LIST = 20_000
"""Most keys in one filter. More keys are read in several parts."""

_filter_of_home = lru_cache(maxsize=64)(home_filter)


class PartitionRead(NamedTuple):
    """The part of a read on one partition.

    It reads the documents of ``keys``, as BSON values (None: the app's filter limits them), or of keys with these ``hashes``,
    or all documents whose ``home`` the partition is. ``epochs``: key → the epoch of the route that it is read by.
    ``is_shadow``: it reads a shadow of its key.
    """

    partition: str
    uri: str
    keys: tuple[Any, ...] | None = None
    epochs: Mapping[str, int] = {}
    home: Home | None = None
    hashes: tuple[int, ...] | None = None
    is_shadow: bool = False

    def narrow(self, filter: Mapping[str, Any], sharded: ShardedCollection, *, collated: bool) -> Mapping[str, Any]:
        """Return ``filter``, limited to what this part reads."""
        if self.home is not None:
            limit: Mapping[str, Any] = _filter_of_home(sharded, self.home.away, collated=collated)
        elif self.hashes is not None:
            limit = hashes_filter(sharded, self.hashes)
        elif self.keys is not None:
            return narrowed(filter, sharded.key_field, self.keys)
        else:
            return filter
        return {"$and": [dict(filter), limit]} if filter and limit else limit or filter

    @property
    def is_limited(self) -> bool:
        """Whether ``narrow`` limits the app's filter."""
        return self.keys is not None or self.home is not None or self.hashes is not None

    def epoch_of(self, unit: str) -> int | None:
        """Return the epoch that this part reads a unit by; None if it does not read the unit."""
        if self.home is None:
            return self.epochs.get(unit)
        placement = locate(self.home.table, unit)
        return placement.epoch if placement.primary == self.partition else None


class ReadPlan(NamedTuple):
    """The parts of one read and its keys. ``scattered``: the read named no keys."""

    parts: tuple[PartitionRead, ...]
    keys: tuple[str, ...]
    scattered: bool = False

    def knows(self, moved: KeyMovedWhileReading) -> bool:
        """Whether the plan was made from a table that has the move."""
        epochs = (part.epoch_of(moved.key) for part in self.parts)
        return all(epoch is None or epoch >= moved.epoch for epoch in epochs)


def by_partition(placed: Mapping[Any, Route]) -> tuple[PartitionRead, ...]:
    """Return the parts that read these keys, which are BSON values, by these routes."""
    found_at: dict[tuple[str, str], list[tuple[Any, Route]]] = defaultdict(list)
    for key, route in placed.items():
        found_at[route.partition, route.uri].append((key, route))
    return tuple(
        PartitionRead(
            *place,
            tuple(key for key, _ in some),
            {route.key: route.epoch for _, route in some},
            is_shadow=any(route.is_shadow for _, route in some),
        )
        for place, found in sorted(found_at.items(), key=itemgetter(0))
        for some in (found[start : start + LONGEST_KEY_LIST] for start in range(0, len(found), LONGEST_KEY_LIST))
    )
