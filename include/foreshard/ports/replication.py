"""How shadow copies are fed: the control database's notes, the sources' changes, and the replication topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import Version
from foreshard.model import Placement
from foreshard.model.shadow_state import ShadowState


@dataclass(frozen=True, slots=True)
class Shadow:
    """One document of ``shadows``; ``shadow_id`` is ``key|target``.

    The copy holds all that its primary acknowledged until ``caught_up_at`` (None: not known), ``lag_ms`` behind the moment of
    the last report. ``round`` is raised by each request and each new comparison with the source and fences the ones before;
    ``floor`` is the version of that comparison's start (what it covers is in the copy already), ``incarnation`` the capture
    that it relies on, and ``wait_cycle`` the capture's cycle that must be applied before the copy has caught up.
    """

    shadow_id: str
    key: str
    source: str
    target: str
    state: ShadowState
    epoch: int
    round: int
    reason: str
    hour: datetime | None = None
    floor: Version | None = None
    incarnation: str | None = None
    wait_cycle: int | None = None
    lag_ms: int | None = None
    caught_up_at: datetime | None = None
    problem: str | None = None
    attempts: int = 0
    updated_at: datetime | None = None


class ShadowStore(Protocol):
    """Shadows in the control database (``shadows``)."""

    def create(self, shadow: Shadow) -> bool:
        """Save a new shadow; False where its id is taken."""
        ...

    def get(self, shadow_id: str) -> Shadow:
        """Raise :class:`foreshard.errors.UnknownShadow`."""
        ...

    def shadows(self, states: Sequence[ShadowState] = ()) -> tuple[Shadow, ...]:
        """Those in one of ``states`` (in any, where none is named), by id."""
        ...

    def of_key(self, key: str) -> tuple[Shadow, ...]: ...

    def history(self, shadow_id: str) -> list[dict[str, Any]]:
        """The last changes of state: ``{state, at, problem}``, oldest first."""
        ...

    def change(
        self, shadow: Shadow, state: ShadowState, fields: Mapping[str, Any] | None = None, *, session: object | None = None
    ) -> Shadow | None:
        """Set ``state`` and ``fields`` unless the state or the round has changed since ``shadow`` was read (then None).

        A change of state is added to ``history``. ``session`` makes it a part of a transaction on the control database.
        """
        ...

    def save_freshness(self, caught_up_at: Mapping[str, datetime], now: datetime) -> None:
        """Note, per shadow id, how fresh it is; its ``lag_ms`` follows from ``now``."""
        ...

    def lease(self, shadow_id: str, worker: str, seconds: float) -> bool:
        """Take or renew the right to work on a shadow; False while another worker has it."""
        ...

    def release(self, shadow_id: str, worker: str) -> None: ...

    def placements(self, keys: Sequence[str]) -> dict[str, Placement]:
        """The published rows of these keys (unlisted ones are left out)."""
        ...

    def left(self, key: str, primary: str, since_epoch: int, epoch: int) -> bool:
        """Whether ``primary`` may have been another one at some epoch in (``since_epoch``, ``epoch``]."""
        ...

    def busy_keys(self, partition_id: str) -> frozenset[str]:
        """The keys that a move under way brings to a partition, or has taken from it and not yet cleaned up there."""
        ...


@dataclass(frozen=True, slots=True)
class CaptureState:
    """How far a partition's changes were captured (``captures``).

    ``keys`` are captured without a gap since they were added, as long as ``incarnation`` stands. ``cycle`` counts complete
    readings of the stream; ``token`` is where to go on.
    """

    partition_id: str
    incarnation: str
    token: bytes | None
    keys: frozenset[str]
    cycle: int


@dataclass(frozen=True, slots=True)
class ApplyProgress:
    """What was applied of one origin's changes in every partition of the topic: all up to ``cycle`` and ``seen_until``."""

    incarnation: str
    cycle: int
    seen_until: datetime


class CaptureStore(Protocol):
    """Checkpoints of capture, progress of applying, and the lease of the one process that replicates."""

    def acquire(self, holder: str, seconds: float) -> int | None:
        """Take or renew the replicator's lease; its term, or None while another holds it."""
        ...

    def release(self, holder: str) -> None: ...

    def claim(self, partition_id: str, term: int) -> CaptureState | None:
        """Take over a partition's capture for ``term`` (older terms are fenced off); None where nothing was captured yet."""
        ...

    def begin(self, partition_id: str, term: int, token: bytes, keys: frozenset[str]) -> CaptureState:
        """Start a new incarnation; shadows that rely on the one before are compared with their source anew."""
        ...

    def checkpoint(self, state: CaptureState, term: int) -> None:
        """Save ``state``; raise :class:`foreshard.errors.ReplicatorSuperseded` where a later term has taken over."""
        ...

    def states(self) -> dict[str, CaptureState]: ...

    def save_applied(
        self, origin: str, incarnation: str, applied: Mapping[int, tuple[int, datetime]], topic_partitions: int
    ) -> None:
        """Note (cycle, seen until) per partition of the topic, which has so many; notes only ever rise."""
        ...

    def progress(self) -> dict[str, ApplyProgress]:
        """Per origin, the least of its notes; an origin without a note from every partition of the topic is left out."""
        ...


@dataclass(frozen=True, slots=True)
class CapturedChange:
    """One change of a source's document; ``key`` is None for a delete, which carries none. ``document`` is its BSON.

    The document is its state at the event or later. ``rekeyed``: the document may have had another key before.
    ``seen`` is the version vector that the source itself has on record for the document.
    """

    namespace: str
    document_id: Any
    identity: bytes
    key: str | None
    document: bytes | None
    seconds: int
    increment: int
    rekeyed: bool = False
    seen: VersionVector | None = None


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes in the stream's order; ``complete`` where no more were waiting; ``token`` is where the stream goes on."""

    changes: tuple[CapturedChange, ...]
    token: bytes
    complete: bool


class CaptureFeed(Protocol):
    """One partition's change stream, filtered to some keys."""

    def open(self, keys: frozenset[str], token: bytes | None) -> bytes:
        """Start after ``token`` (None: now) and return where; raise :class:`foreshard.errors.CaptureLost` if that's gone."""
        ...

    def read(self, limit: int, wait_ms: int) -> ChangeBatch:
        """The next changes, waiting up to ``wait_ms`` for the first."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ReplicationRecord:
    """A change on its way to the shadows. ``key`` None: a delete, whose key only the replica knows (its epoch is 0)."""

    namespace: str
    document_id: Any
    identity: bytes
    key: str | None
    origin: str
    version: Version
    document: bytes | None
    rekeyed: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """All changes of ``origin`` until ``seen_until`` stand before it in its partition of the topic."""

    origin: str
    incarnation: str
    cycle: int
    seen_until: datetime
    topic_partition: int = 0


class ReplicationLog(Protocol):
    """The producing end of the replication topic; both calls return only when all is acknowledged."""

    def publish(self, records: Sequence[ReplicationRecord]) -> None: ...

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Publish it to every partition of the topic."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """Records and heartbeats in the topic's order per document; ``unreadable`` counts messages that are not ours."""

    records: tuple[ReplicationRecord, ...]
    heartbeats: tuple[Heartbeat, ...]
    unreadable: int = 0


class ReplicationReader(Protocol):
    """The consuming end: at least once, from the last committed position."""

    @property
    def topic_partitions(self) -> int: ...

    def read(self, limit: int, wait_seconds: float) -> Delivery: ...

    def commit(self) -> None:
        """Note that all read so far is applied."""
        ...

    def gap(self, positions_expected: bool) -> str | None:
        """Why records may be missing after the committed positions, if any may (or where there should be positions)."""
        ...

    def close(self) -> None: ...
