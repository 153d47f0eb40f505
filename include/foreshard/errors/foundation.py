"""The base of the error tree, and errors of settings, services, partitions and input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ForeshardError(Exception):
    """Base of all errors that Foreshard raises on purpose. ``str()`` is one line for people."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the error with its fields. Its arguments are only the line, so the default would fail."""
        return _remade, (type(self), self.args, dict(self.__dict__))


def _remade(kind: type[ForeshardError], args: tuple[Any, ...], fields: Mapping[str, Any]) -> ForeshardError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConfigurationError(ForeshardError):
    """A setting is missing or invalid."""

    def __init__(self, setting: str, problem: str, remedy: str) -> None:
        super().__init__(f"setting {setting}: {problem}; {remedy}")
        self.setting, self.problem, self.remedy = setting, problem, remedy


class MissingSecret(ConfigurationError):
    """A secret is not set, neither in the environment nor in an Airflow connection."""

    def __init__(self, setting: str, purpose: str) -> None:
        super().__init__(setting, f"missing secret ({purpose})", f"set it in the environment, e.g. export {setting}=…")
        self.purpose = purpose


class UnknownPartition(ForeshardError):
    """A partition id is not in the registry."""

    def __init__(self, partition_id: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown partition {partition_id!r}; known: {', '.join(sorted(known)) or 'none'}; register it first")
        self.partition_id, self.known = partition_id, tuple(known)


class UnusableCapacity(ForeshardError):
    """A partition cannot be scored, because its capacity is not a positive number."""

    def __init__(self, partition_id: str, capacity: float) -> None:
        super().__init__(f"partition {partition_id!r} has capacity {capacity}; register it with cost units per second above 0")
        self.partition_id, self.capacity = partition_id, capacity


class DuplicatePartition(ForeshardError):
    """A registration contains a partition twice."""

    def __init__(self, partition_id: str) -> None:
        super().__init__(f"partition {partition_id!r} is listed twice; give each partition its own id")
        self.partition_id = partition_id


class UnknownLocation(ForeshardError):
    """A partition's location has no registered coordinates."""

    def __init__(self, partition_id: str, location: str, known: Sequence[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"partition {partition_id!r} is at unknown location {location!r}; known: {names}; register the location"
        )
        self.partition_id, self.location, self.known = partition_id, location, tuple(known)


class Unreachable(ForeshardError):
    """A service did not answer."""

    def __init__(self, service: str, address: str, remedy: str) -> None:
        super().__init__(f"{service} at {address} does not answer; {remedy}")
        self.service, self.address, self.remedy = service, address, remedy


class PortInUse(ForeshardError):
    """A port of the stack is in use."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(f"port {port} for {service} is in use; stop the process that listens there or choose another port")
        self.service, self.port = service, port


class CorruptLog(ForeshardError):
    """An access log cannot be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"access log {path}: {problem}; nothing of it was counted")
        self.path, self.problem = path, problem


class UnknownEngine(ForeshardError):
    """The forecast engine does not exist."""

    def __init__(self, engine: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown forecast engine {engine!r}; known: {', '.join(known)}; set FORESHARD_FORECAST__ENGINE")
        self.engine, self.known = engine, tuple(known)


class UnsupportedModel(ForeshardError):
    """The batched engine does not support a Prophet argument."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the batched engine does not support {what}; use the engine 'prophet'")
        self.what = what


class RawUserId(ForeshardError):
    """Records with raw ids of users or sessions must not be stored."""

    def __init__(self, users: int) -> None:
        super().__init__(
            f"{users} user or session ids are not pseudonymised; nothing was written; use `foreshard observe`, which"
            " pseudonymises them"
        )
        self.users = users


class InvalidKey(ForeshardError):
    """A text is not a partitionable key of the collections' key type."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"key {key!r} {problem}")
        self.key, self.problem = key, problem


class ArrayKeys(ForeshardError):
    """Documents hold an array in their key field, so it can't have a hashed index."""

    def __init__(self, namespace: str, partition_id: str, key_field: str) -> None:
        super().__init__(
            f"{namespace} on {partition_id} has an array in {key_field}, so it can't have a hashed index; give each document"
            " one key: `foreshard keys check` counts them; --no-index goes on without the index"
        )
        self.namespace, self.partition_id, self.key_field = namespace, partition_id, key_field
