"""What an operation of MongoDB's profiler or slow-query log accessed, as fields of one form.

Both name the operation in the same words: documents of ``system.profile``, exported as JSON lines, and the lines "Slow query"
of mongod's log. The fields are ``time``, ``ns``, ``verb`` (find, aggregate, distinct, findAndModify, update, remove, …),
``query`` (the filter), ``address``, ``user``, ``millis``, ``docs`` (examined) and ``kind``. MongoDB does not say which
documents an insert inserted, so an insert has a ``kind`` of its own.
"""

from __future__ import annotations

from typing import Any

from foreshard.settings import MONGODB_OPERATION

INSERT, OTHER = "insert", "other"
"""The kinds of records that can't be counted."""
_COMMANDS = (
    "find",
    "aggregate",
    "count",
    "distinct",
    "findAndModify",
    "findandmodify",
    "getMore",
    "insert",
    "update",
    "delete",
)
_WRITES = ("update", "remove", "insert")


def operation_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a profiler's document or a line of mongod's log."""
    about = record.get("attr") if "attr" in record else record
    command = about.get("command") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(command, dict) or ("attr" in record and record.get("msg") != "Slow query"):
        return {"kind": OTHER}
    kind = str(about.get("op") or about.get("type"))
    verb = kind if kind in _WRITES else next((name for name in _COMMANDS if name in command), kind)
    query = _plain(_query(command))
    return {
        "kind": INSERT if verb == "insert" else MONGODB_OPERATION if isinstance(query, dict) else OTHER,
        "time": _plain(record.get("t") if "attr" in record else about.get("ts")),
        "ns": about.get("ns"),
        "verb": verb,
        "query": query,
        "address": about.get("remote") or about.get("client"),
        "user": about.get("user") or None,
        "millis": about.get("durationMillis") if "attr" in record else about.get("millis"),
        "docs": about.get("docsExamined"),
    }


def _query(command: dict[str, Any]) -> Any:
    """Return the command's filter; of an aggregation that of its first stage."""
    if "pipeline" in command:
        stages = command["pipeline"]
        first = stages[0] if isinstance(stages, list) and stages else None
        return first.get("$match", {}) if isinstance(first, dict) else {}
    return next((command[name] for name in ("filter", "q", "query") if name in command), None)


def _plain(value: Any) -> Any:
    """Return a value without the wrappers of extended JSON, and without ``$eq``."""
    if isinstance(value, dict):
        if len(value) == 1:
            [(name, inner)] = value.items()
            if name in ("$eq", "$date", "$oid", "$uuid", "$numberLong", "$numberInt", "$numberDouble"):
                return _plain(inner)
        return {name: _plain(inner) for name, inner in value.items()}
    return value
