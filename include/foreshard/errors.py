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


class VerificationFailed(ForeshardError):
    """Copies that must be equal are not."""

    def __init__(self, what: str, differences: Sequence[str]) -> None:
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        super().__init__(f"{what}: {len(differences)} differences: {shown}")
        self.what, self.differences = what, tuple(differences)
