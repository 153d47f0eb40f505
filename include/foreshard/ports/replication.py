"""What feeds shadows: their control documents, the captured changes of their sources, and the replication topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import Version
from foreshard.model import Placement
from foreshard.model.cluster_time import ClusterTime
from foreshard.model.shadow_state import ShadowState


@dataclass(frozen=True, slots=True)
class Shadow:
    """One shadow; ``shadow_id`` is ``key|target``.

    The shadow holds everything that its primary copy acknowledged until ``caught_up_at`` (None: unknown). ``lag_ms`` is its lag
    at the last report. Each request and each new comparison with the source raises ``lease``, which fences off earlier writers.
    ``floor`` is the version at which that comparison started; the shadow already holds every change that it covers.
    ``capture_id`` names the capture that the shadow relies on. The shadow has caught up once the capture's ``wait_cycle`` is
    applied.
    """

    shadow_id: str
    key: str
    source: str
    target: str
    state: ShadowState
    epoch: int
    lease: int
    reason: str
    hour: datetime | None = None
    floor: Version | None = None
    capture_id: str | None = None
    wait_cycle: int | None = None
    lag_ms: int | None = None
    caught_up_at: datetime | None = None
    problem: str | None = None
    attempts: int = 0
    updated_at: datetime | None = None


class ShadowStore(Protocol):
    """Shadows in the control database (``shadows``)."""

    def create(self, shadow: Shadow) -> bool:
        """Save a new shadow. Return False if its id is taken."""

    def get(self, shadow_id: str) -> Shadow:
        """Return a shadow. Raise :class:`foreshard.errors.UnknownShadow`."""

    def shadows(self, states: Sequence[ShadowState] = ()) -> tuple[Shadow, ...]:
        """Return the shadows in ``states`` (in any state if empty), by id."""

    def of_key(self, key: str) -> tuple[Shadow, ...]: ...

    def history(self, shadow_id: str) -> list[dict[str, Any]]:
        """Return the last state changes, ``{state, at, problem}``, oldest first."""

    def change(
        self, shadow: Shadow, state: ShadowState, fields: Mapping[str, Any] | None = None, *, session: object | None = None
    ) -> Shadow | None:
        """Set ``state`` and ``fields``. Return None if the state or the lease has changed since ``shadow`` was read.

        A change of state is added to the history. With ``session`` it is part of a transaction on the control database.
        """

    def save_freshness(self, reached: Mapping[str, ApplyProgress], now: datetime) -> None:
        """Save how far each shadow, by its id, has everything, and the lag at ``now``."""

    def claim_work(self, shadow_id: str, worker: str, seconds: float) -> bool:
        """Claim the work on a shadow, or renew the claim. Return False while another worker has it."""

    def release_work(self, shadow_id: str, worker: str) -> None: ...

    def placements(self, keys: Sequence[str]) -> dict[str, Placement]:
        """Return the published rows of these keys. Unlisted keys are left out."""

    def left(self, key: str, primary: str, since_epoch: int, epoch: int) -> bool:
        """Return whether the primary copy may have been elsewhere at some epoch in (``since_epoch``, ``epoch``]."""

    def is_busy(self, key: str, partition_id: str) -> bool:
        """Return whether an open move brings the key to the partition, or takes it from there and has not cleaned up."""


@dataclass(frozen=True, slots=True)
class CaptureState:
    """The checkpoint of a partition's capture (``captures``).

    ``keys`` are captured without a gap since they were added, as long as ``capture_id`` is the same. ``cycle`` counts the times
    that the stream was read to its end. The capture resumes at ``token``.
    """

    partition_id: str
    capture_id: str
    token: bytes | None
    keys: frozenset[str]
    cycle: int


@dataclass(frozen=True, slots=True)
class ApplyProgress:
    """How far one origin's changes are applied: all of them up to ``cycle`` and ``seen_until``, in every topic partition.

    ``committed``: the same as a cluster time of the origin (None: a capture of an earlier release did not say).
    """

    capture_id: str
    cycle: int
    seen_until: datetime
    committed: ClusterTime | None = None


class CaptureStore(Protocol):
    """Checkpoints of captures, progress of applying, and the lease of the one process that replicates."""

    def acquire(self, holder: str, seconds: float) -> int | None:
        """Acquire or renew the replicator's lease. Return its number; None while another process holds it."""

    def release(self, holder: str) -> None: ...

    def clock(self) -> datetime:
        """Return the time by the control database's clock, or a little less. Freshness is told by this one clock."""

    def claim(self, partition_id: str, lease: int) -> CaptureState | None:
        """Take over a partition's capture under ``lease``, which fences off older ones. Return None if nothing was captured
        yet.
        """

    def begin(self, partition_id: str, lease: int, token: bytes, keys: frozenset[str]) -> CaptureState:
        """Start a new capture. Shadows that rely on the previous one are compared with their source again."""

    def checkpoint(self, state: CaptureState, lease: int) -> None:
        """Save ``state``. Raise :class:`foreshard.errors.ReplicatorSuperseded` if a later lease has taken over."""

    def states(self) -> dict[str, CaptureState]: ...

    def save_applied(self, origin: str, capture_id: str, applied: Mapping[int, Heartbeat], topic_partitions: int) -> None:
        """Save the last heartbeat per topic partition. The saved values never fall."""

    def progress(self) -> dict[str, ApplyProgress]:
        """Return the least progress per origin. An origin is left out until every topic partition has reported."""


@dataclass(frozen=True, slots=True)
class CapturedChange:
    """One change of a source's document. ``key`` is None for a delete, whose event has no key.

    ``document`` is the BSON of its state at the event or later. ``rekeyed``: the document may have had another key before.
    ``seen`` is the version vector that the source has recorded for the document.
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
    """Changes in the stream's order. ``complete``: no more were waiting. The stream resumes at ``token``."""

    changes: tuple[CapturedChange, ...]
    token: bytes
    complete: bool


class CaptureFeed(Protocol):
    """One partition's change stream, filtered to some keys."""

    def open(self, keys: frozenset[str], token: bytes | None) -> bytes:
        """Start after ``token`` (None: now). Return the position. Raise :class:`foreshard.errors.CaptureLost` if it is gone."""

    def read(self, limit: int, wait_ms: int) -> ChangeBatch:
        """Return the next changes. Wait at most ``wait_ms`` for the first."""

    def committed(self) -> ClusterTime:
        """Return a time up to which a majority has everything. A read after this call that is complete has it all."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ReplicationRecord:
    """A change on its way to the shadows. ``key`` is None for a delete, whose key only the replica knows; its epoch is 0."""

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
    """Every change of ``origin`` until ``seen_until`` comes before this message in its topic partition.

    ``committed``: the same as a cluster time of the origin (None in messages of an earlier release).
    """

    origin: str
    capture_id: str
    cycle: int
    seen_until: datetime
    topic_partition: int = 0
    committed: ClusterTime | None = None


class ReplicationLog(Protocol):
    """The producing end of the replication topic. Both calls return after Kafka has acknowledged everything."""

    def publish(self, records: Sequence[ReplicationRecord]) -> None: ...

    def heartbeat(self, heartbeat: Heartbeat) -> None:
        """Publish it to every topic partition."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Records and heartbeats, in the topic's order per document. ``unreadable`` counts foreign messages."""

    records: tuple[ReplicationRecord, ...]
    heartbeats: tuple[Heartbeat, ...]
    unreadable: int = 0


class ReplicationReader(Protocol):
    """The consuming end. It reads at least once, from the last committed position."""

    @property
    def topic_partitions(self) -> int: ...

    def read(self, limit: int, wait_seconds: float) -> Delivery: ...

    def commit(self) -> None:
        """Record that everything read so far is applied."""

    def gap(self, positions_expected: bool) -> str | None:
        """Return why records may be missing after the committed positions, or why positions are missing; None if none are."""

    def close(self) -> None: ...
