"""The error tree: each error carries its fields and says in one line what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class ForeshardError(Exception):
    """Root of every error that Foreshard raises on purpose; ``str()`` is one line for people."""


class ConfigurationError(ForeshardError):
    """A setting is absent or makes no sense."""

    def __init__(self, setting: str, problem: str, remedy: str) -> None:
        super().__init__(f"setting {setting}: {problem}; {remedy}")
        self.setting, self.problem, self.remedy = setting, problem, remedy


class MissingSecret(ConfigurationError):
    """A secret that must come from the environment or an Airflow connection is not there."""

    def __init__(self, setting: str, purpose: str) -> None:
        super().__init__(setting, f"missing secret ({purpose})", f"set it in the environment, e.g. export {setting}=…")
        self.purpose = purpose


class UnknownPartition(ForeshardError):
    """A partition id that the registry does not list."""

    def __init__(self, partition_id: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown partition {partition_id!r}; known: {', '.join(sorted(known)) or 'none'}; register it first")
        self.partition_id, self.known = partition_id, tuple(known)


class UnusableCapacity(ForeshardError):
    """A registered partition whose capacity is not a positive number, so that it cannot be scored."""

    def __init__(self, partition_id: str, capacity: float) -> None:
        super().__init__(f"partition {partition_id!r} has capacity {capacity}; register it with cost units per second above 0")
        self.partition_id, self.capacity = partition_id, capacity


class Unreachable(ForeshardError):
    """A service did not answer."""

    def __init__(self, service: str, address: str, remedy: str) -> None:
        super().__init__(f"{service} at {address} does not answer; {remedy}")
        self.service, self.address, self.remedy = service, address, remedy


class PortInUse(ForeshardError):
    """A port that a process of the stack needs is taken."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(f"port {port} for {service} is in use; stop what listens there or choose another port")
        self.service, self.port = service, port


class CorruptLog(ForeshardError):
    """An access-log file that cannot be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"access log {path}: {problem}; nothing was imported from it")
        self.path, self.problem = path, problem


class UnknownEngine(ForeshardError):
    """A forecast engine that does not exist."""

    def __init__(self, engine: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown forecast engine {engine!r}; known: {', '.join(known)}; set FORESHARD_FORECAST__ENGINE")
        self.engine, self.known = engine, tuple(known)


class UnsupportedModel(ForeshardError):
    """A Prophet argument that the batched solver does not have."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the batched engine has no {what}; use the engine 'prophet' for it")
        self.what = what


class RawUserId(ForeshardError):
    """Records with raw user ids were about to be stored."""

    def __init__(self, users: int) -> None:
        super().__init__(f"{users} user ids are no pseudonyms; nothing was written: make pseudonyms of them first")
        self.users = users


class MissingStageResult(ForeshardError):
    """A stage was run before the one whose result it reads."""

    def __init__(self, result: str, hour: str, producer: str) -> None:
        super().__init__(f"no {result} for {hour}; run {producer} for that hour first")
        self.result, self.hour, self.producer = result, hour, producer


class GateFailed(ForeshardError):
    """A data-quality gate refused a stage's result; nothing downstream may act on it."""

    def __init__(self, gate: str, hour: str, failures: Sequence[str]) -> None:
        super().__init__(f"gate {gate} failed for {hour}: {'; '.join(failures)}")
        self.gate, self.hour, self.failures = gate, hour, tuple(failures)


class IllegalTransition(ForeshardError):
    """A state machine was asked for a step that its transition table does not have."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine} in state {state!r} cannot {event!r}")
        self.machine, self.state, self.event = machine, state, event


class StaleEpoch(ForeshardError):
    """A publication was made from an old epoch of a key; the table was left as it was."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"key {key!r} is at epoch {actual}, not {expected}; read the table again and retry")
        self.key, self.expected, self.actual = key, expected, actual


class InvalidChange(ForeshardError):
    """A publication with a row that makes no sense; the table was left as it was."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"change of key {key!r}: {problem}; nothing was published")
        self.key, self.problem = key, problem


class NoRoutingTable(ForeshardError):
    """The control database holds no published routing table."""

    def __init__(self, database: str) -> None:
        super().__init__(f"no routing table is published in database {database!r}; initialise one first")
        self.database = database


class RoutingTableStands(ForeshardError):
    """A first table was to be published where another one stands."""

    def __init__(self, version: int, wanted: int) -> None:
        super().__init__(
            f"a routing table stands at version {version}; version {wanted} can't replace it: publish changes instead"
        )
        self.version, self.wanted = version, wanted


class TableLoadSuperseded(ForeshardError):
    """Another process took over the loading of the first table; this one stopped."""

    def __init__(self, database: str) -> None:
        super().__init__(
            f"another process loads the first routing table of database {database!r}; wait for it or run this again"
        )
        self.database = database


class TableGap(ForeshardError):
    """A publication that does not follow the table it was to be applied to."""

    def __init__(self, version: int, publication: int) -> None:
        super().__init__(f"publication {publication} does not follow routing table version {version}; read the whole table")
        self.version, self.publication = version, publication


class UnknownVersion(ForeshardError):
    """A version of the routing table that was never published."""

    def __init__(self, version: int, first: int, current: int) -> None:
        super().__init__(f"routing table version {version} is not known; choose one from {first} to {current}")
        self.version, self.first, self.current = version, first, current


class CorruptRoutingFile(ForeshardError):
    """A saved routing table that is not what was written; it is not used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"routing file {path}: {problem}; refused, and the one before is used where there is one")
        self.path, self.problem = path, problem


class NoDefaultPartition(ForeshardError):
    """The default rule names no partition with a positive weight, so that unlisted keys live nowhere."""

    def __init__(self, partitions: Sequence[str]) -> None:
        super().__init__(f"default rule has no partition with a weight above 0 (of {len(partitions)}); publish a default rule")
        self.partitions = tuple(partitions)


class UnknownLocation(ForeshardError):
    """A partition stands at a location whose coordinates nobody registered."""

    def __init__(self, partition_id: str, location: str, known: Sequence[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"partition {partition_id!r} is at unknown location {location!r}; known: {names}; register the location"
        )
        self.partition_id, self.location, self.known = partition_id, location, tuple(known)


class DuplicatePartition(ForeshardError):
    """One registration names a partition twice."""

    def __init__(self, partition_id: str) -> None:
        super().__init__(f"partition {partition_id!r} is named twice; give each partition an id of its own")
        self.partition_id = partition_id


class MoveSuperseded(ForeshardError):
    """A mover's lease was taken by another; its batch was aborted by the target and it must stop."""

    def __init__(self, move_id: str, lease: int) -> None:
        super().__init__(f"move {move_id}: lease {lease} is superseded; this mover stops")
        self.move_id, self.lease = move_id, lease


class FenceTimedOut(ForeshardError):
    """A fence could not be changed in time; nothing was fenced by this attempt."""

    def __init__(self, namespace: str, problem: str, timeout: timedelta) -> None:
        seconds = timeout.total_seconds()
        super().__init__(f"fence on {namespace}: {problem} for {seconds:.1f} s; end long transactions there and retry")
        self.namespace, self.problem, self.timeout = namespace, problem, timeout


class FenceRefused(ForeshardError):
    """A collection that cannot be fenced."""

    def __init__(self, namespace: str, problem: str, remedy: str) -> None:
        super().__init__(f"fence on {namespace}: {problem}; {remedy}")
        self.namespace, self.problem, self.remedy = namespace, problem, remedy


class UnknownMove(ForeshardError):
    """A move id that the journal does not hold."""

    def __init__(self, move_id: str) -> None:
        super().__init__(f"no move {move_id!r} in the journal; foreshard moves list shows them")
        self.move_id = move_id


class MoveRefused(ForeshardError):
    """A move that cannot be carried out; before its switch it is reverted."""

    def __init__(self, move_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"move {move_id}: {problem}; {remedy}")
        self.move_id, self.problem, self.remedy = move_id, problem, remedy


class MoveTimedOut(ForeshardError):
    """A step of a move that did not end within its limit; before its switch it is reverted."""

    def __init__(self, move_id: str, step: str, limit: timedelta) -> None:
        super().__init__(f"move {move_id}: {step} took more than {limit.total_seconds():.1f} s; move it at a quieter hour")
        self.move_id, self.step, self.limit = move_id, step, limit


class HistoryLost(ForeshardError):
    """A partition's oplog no longer holds the changes since the position that was asked for."""

    def __init__(self, partition_id: str) -> None:
        super().__init__(f"partition {partition_id}: its oplog no longer holds the changes asked for; give it a larger oplog")
        self.partition_id = partition_id


class ClockDrift(ForeshardError):
    """A time that is too far ahead of this host's clock to be taken over."""

    def __init__(self, origin: str, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(f"clock of {origin} is {ahead_ms} ms ahead (limit {limit_ms} ms); synchronise the hosts' clocks")
        self.origin, self.ahead_ms, self.limit_ms = origin, ahead_ms, limit_ms


class UnknownShadow(ForeshardError):
    """A shadow id that the control database does not list."""

    def __init__(self, shadow_id: str) -> None:
        super().__init__(f"unknown shadow {shadow_id!r}; foreshard shadows list shows them all")
        self.shadow_id = shadow_id


class UnknownConflict(ForeshardError):
    """A conflict id that the control database does not list."""

    def __init__(self, conflict_id: str) -> None:
        super().__init__(f"unknown conflict {conflict_id!r}; foreshard shadows conflicts list shows them all")
        self.conflict_id = conflict_id


class ShadowRefused(ForeshardError):
    """A shadow that cannot be made or kept as asked."""

    def __init__(self, shadow_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"shadow {shadow_id}: {problem}; {remedy}")
        self.shadow_id, self.problem, self.remedy = shadow_id, problem, remedy


class ReplicaRefused(ForeshardError):
    """A partition does not take a replicated document, whatever else is in the batch."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a replicated document was refused: {problem}; correct the data on the shadow's partition")
        self.problem = problem


class ReplicatorSuperseded(ForeshardError):
    """Another process replicates now; what this one was about to note as done is not noted."""

    def __init__(self, partition_id: str, term: int) -> None:
        super().__init__(f"capture of partition {partition_id}: term {term} is superseded; this replicator stops")
        self.partition_id, self.term = partition_id, term


class CaptureLost(ForeshardError):
    """A change stream cannot continue where it stopped, so that changes may have been missed; its shadows are compared anew."""

    def __init__(self, partition_id: str, problem: str) -> None:
        super().__init__(f"capture of partition {partition_id}: {problem}; its shadows are compared anew")
        self.partition_id, self.problem = partition_id, problem


class VerificationFailed(ForeshardError):
    """Copies that must be equal are not."""

    def __init__(self, what: str, differences: Sequence[str]) -> None:
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        super().__init__(f"{what}: {len(differences)} differences: {shown}")
        self.what, self.differences = what, tuple(differences)


class AmbiguousWrite(ForeshardError):
    """The answer to a write was lost: it may have been applied or not, and it was not sent again.

    For writes of many documents ``confirmed`` counts what was certainly done, ``in_doubt`` and ``not_attempted`` are indexes
    into the requests.
    """

    def __init__(
        self,
        namespace: str,
        operation: str,
        keys: Sequence[str],
        partition_id: str,
        cause: str,
        *,
        confirmed: int = 0,
        in_doubt: Sequence[int] = (0,),
        not_attempted: Sequence[int] = (),
    ) -> None:
        shown = ", ".join(repr(key) for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        super().__init__(
            f"{operation} on {namespace} for key {shown}: the answer of partition {partition_id} was lost ({cause}); "
            "read the documents back before writing again"
        )
        self.namespace, self.operation, self.keys, self.partition_id = namespace, operation, tuple(keys), partition_id
        self.cause, self.confirmed = cause, confirmed
        self.in_doubt, self.not_attempted = tuple(in_doubt), tuple(not_attempted)


class KeyInTransit(ForeshardError):
    """A key's fence refused a write until the client's deadline; the write was not applied."""

    def __init__(self, namespace: str, key: str, partition_id: str, waited: timedelta) -> None:
        super().__init__(
            f"write for key {key!r} in {namespace}: refused by its fence on partition {partition_id} for "
            f"{waited.total_seconds():.1f} s, not applied; retry, or see foreshard moves for a stuck move"
        )
        self.namespace, self.key, self.partition_id, self.waited = namespace, key, partition_id, waited


class UnroutableOperation(ForeshardError):
    """An operation that the routed client cannot send to the right partitions; nothing was sent."""

    def __init__(self, namespace: str, operation: str, problem: str, remedy: str) -> None:
        super().__init__(f"{operation} on {namespace}: {problem}; {remedy}")
        self.namespace, self.operation, self.problem, self.remedy = namespace, operation, problem, remedy


class RouteRefused(ForeshardError):
    """The sidecar refused to route a key."""

    def __init__(self, key: str, status: int, problem: str) -> None:
        super().__init__(
            f"route of key {key[:80]!r}: the sidecar answered {status} ({problem}); correct the key or the request"
        )
        self.key, self.status, self.problem = key, status, problem
