"""What the error of a write means: was it refused by a fence, was it sent at all, may it have been applied?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import ConnectionFailure, ExecutionTimeout, OperationFailure, PyMongoError, WriteConcernError

from foreshard.stores.partition.fences.fence_validator import FIRST_CLAUSE

REFUSED_BY_VALIDATOR = 121
HASH = "$toHashedIndexKey"
LEFT = {"details": {"clausesNotSatisfied": [{"index": 0, "details": {HASH: []}}]}}
"""The details of a fence's refusal, for requests that the client itself has stopped."""
_INTERRUPTED = frozenset({11600, 11602, 10107, 13435, 189, 91, 64, 50})
"""The server was interrupted by a shutdown, step-down or time limit: the write may have been applied."""


def fenced(error: Mapping[str, Any], key_field: str) -> bool | None:
    """Whether the details of an error 121 name the fence's clause. None without details (the server omits long ones)."""
    details = (error.get("errInfo") or {}).get("details")
    if not details:
        return None
    return any(_is_of_fence(clause, key_field) for clause in details.get("clausesNotSatisfied", ()))


def _is_of_fence(clause: Mapping[str, Any], key_field: str) -> bool:
    """Whether a failed clause is one of the fence's. The first one is an older version's."""
    index = clause.get("index", 0)
    return (index == 0 or index >= FIRST_CLAUSE) and _compares_keys(clause.get("details"), key_field)


def _compares_keys(part: Any, key_field: str) -> bool:
    """Whether a part of an error's details names slots, or a list of keys that are elsewhere."""
    if isinstance(part, Mapping):
        is_list = part.get("operatorName") == "$nin" and key_field in (part.get("specifiedAs") or {})
        return is_list or HASH in part or any(_compares_keys(inner, key_field) for inner in part.values())
    return isinstance(part, list) and any(_compares_keys(inner, key_field) for inner in part)


def was_never_sent(error: PyMongoError) -> bool:
    """Whether pymongo did not send an operation, because the app's own deadline had passed."""
    text = str((error.details or {}).get("errmsg", "")) if isinstance(error, ExecutionTimeout) else ""
    return text.startswith("operation would exceed time limit")


def in_doubt(error: PyMongoError) -> bool:
    """Whether a write that failed with this error may have been applied."""
    if was_committing(error):
        return True
    if was_never_sent(error):
        return False
    if isinstance(error, ConnectionFailure | WriteConcernError):
        return True
    return isinstance(error, OperationFailure) and error.code in _INTERRUPTED


def was_committing(error: PyMongoError) -> bool:
    """Whether the commit of a transaction got no answer."""
    return error.has_error_label("UnknownTransactionCommitResult")


def one_line(error: Exception) -> str:
    """The error's type and the first line of its message, without pymongo's topology description."""
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text.split(' (configured timeouts')[0].split(', Timeout:')[0]}"
