"""Reads the records of one hour: drops duplicates, checks the others, and hides identities. One rule, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from foreshard.model import ONE_HOUR
from foreshard.model.key_space import KeyType
from foreshard.observe.batches import CleanBatch, RawBatch, clean_batch
from foreshard.observe.duplicates import SeenRecords
from foreshard.observe.hiding import Pseudonyms


@dataclass(frozen=True, slots=True)
class HourRules:
    """Which records of a source are accepted. It can be sent to other machines."""

    hour: datetime
    request_types: tuple[str, ...]
    key_type: KeyType


class RecordCleaner:
    """Cleans the batches of an hour. ``key`` is called only if there is an identity. ``seen``: the records so far."""

    def __init__(self, rules: HourRules, key: Callable[[], bytes], seen: SeenRecords | None = None) -> None:
        self._rules, self.seen = rules, seen or SeenRecords()
        self._pseudonyms = Pseudonyms(key, rules.request_types)

    def clean(self, batch: RawBatch) -> CleanBatch:
        """Return a batch without duplicates, checked and with pseudonyms."""
        rules, once = self._rules, self.seen.without_duplicates(batch)
        until = rules.hour + ONE_HOUR
        return self._pseudonyms.of(clean_batch(once, rules.hour, until, rules.request_types, rules.key_type))


class PartsWriter(Protocol):
    """Takes the parts of an hour that executors have written."""

    def folder(self) -> Path:
        """Return a folder where they write. It is deleted at the end."""

    def add_part(self, part: Any) -> None:
        """Take a part that waits in the folder. Parts are added in the order of the log."""


class HourReader(Protocol):
    """Reads an hour on a cluster."""

    def read(self, rules: HourRules, key: Callable[[], bytes], writer: PartsWriter, note: Callable[[str], None]) -> int:
        """Read the hour's records into the writer's parts. Return the number of duplicates that were dropped.

        Raise what reading them in this process raises, and :class:`foreshard.errors.ClusterFailed`.
        """
