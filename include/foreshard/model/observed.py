"""Access records, hourly tallies, series, and gate results."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from foreshard.model.arrays import BoolArray

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """An entry of the access log. ``user_id`` is a pseudonym (HMAC-SHA256), never a raw id."""

    timestamp: datetime
    partitionable_key: str
    user_id: str | None
    request_type: str
    location: str | None = None
    session_id: str | None = None
    cost: float | None = None


@dataclass(frozen=True)
class HourTally:
    """The tally of one closed hour: key load (``KEY_LOAD_COLUMNS``) and co-access (``CO_ACCESS_COLUMNS``)."""

    hour: datetime
    key_load: pd.DataFrame
    co_access: pd.DataFrame
    facts: HourFacts | None = None


@dataclass(frozen=True)
class SeriesMatrix:
    """Cost per key and hour for the ``T`` hours up to and including ``hour``.

    ``costs`` (keys, T) is in cost units per hour, and 0 in missing hours. ``counted`` (T,) marks the hours that were counted.
    """

    hour: datetime
    keys: tuple[str, ...]
    costs: npt.NDArray[np.float32]
    counted: BoolArray

    @property
    def missing(self) -> BoolArray:
        """(keys, T): True where the cost is unknown. A read-only view."""
        import numpy as np

        return np.broadcast_to(~self.counted, self.costs.shape)

    def rows(self, start: int, stop: int) -> SeriesMatrix:
        """The keys ``start:stop``."""
        return SeriesMatrix(self.hour, self.keys[start:stop], self.costs[start:stop], self.counted)


@dataclass(frozen=True, slots=True)
class HourFacts:
    """What the gate compares between hours, apart from accesses and keys.

    ``cost`` is in cost units. ``with_user``: the records with a user. ``minutes``: the accesses in each of the 60 minutes.
    ``repeated``: every record comes this many times (1 if they are not all repeated alike). ``sketch``: the smallest hashes of
    the records, which leave the hour out, so two hours with the same records have the same sketch.
    """

    cost: float
    with_user: int
    minutes: tuple[int, ...]
    repeated: int
    sketch: tuple[int, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class HourCounts:
    """The number of accesses and of distinct keys in a counted hour. ``revision`` changes when the hour is tallied again.

    ``facts`` are missing in hours that an earlier release counted.
    """

    hour: datetime
    accesses: int
    keys: int
    revision: str = field(default="", compare=False)
    facts: HourFacts | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of a quality gate for an hour. Each failure is one line that says what failed and by how much.

    ``warnings`` are lines of the same form that do not stop the hour. ``final`` are the failures that no person can accept.
    """

    gate: str
    hour: datetime
    passed: bool
    failures: tuple[str, ...] = ()
    expectations: int = 0
    warnings: tuple[str, ...] = ()
    final: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A person's decision to use an hour although its gate failed. It holds for the ``failures`` that the person saw."""

    by: str
    because: str
    at: datetime
    failures: tuple[str, ...]
