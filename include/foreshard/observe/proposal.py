"""Proposes the mapping of a log whose fields are not the standard columns, from their names and some of their values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from foreshard.observe.clean import EARLIEST
from foreshard.observe.values import as_times

_LIKELY = {
    "timestamp": ("timestamp", "time", "ts", "datetime", "date", "at", "eventtime", "createdat", "t"),
    "partitionable_key": (
        "partitionablekey",
        "key",
        "shardkey",
        "partitionkey",
        "tenantid",
        "tenant",
        "station",
        "path",
        "uri",
    ),
    "user_id": ("userid", "user", "username", "customerid", "customer", "accountid", "account", "uid"),
    "request_type": ("requesttype", "type", "method", "operation", "op", "verb", "action", "event"),
    "location": ("location", "region", "site", "country", "datacenter", "address", "remoteaddr", "ip"),
    "session_id": ("sessionid", "session", "sid", "visitid", "visit"),
    "cost": ("cost", "durationms", "duration", "latencyms", "latency", "millis", "elapsed", "requesttime"),
    "record_id": ("recordid", "eventid", "requestid", "uuid"),
}
_TYPES = {
    "read": ("GET", "HEAD", "OPTIONS", "find", "query", "count", "distinct", "getMore", "aggregate", "select", "view", "get"),
    "write": ("POST", "PUT", "PATCH", "findAndModify", "findandmodify", "set", "put", "post", "upsert", "save"),
    "delete": ("DELETE", "remove", "del"),
}
_MEANING = {word.lower(): kind for kind, words in _TYPES.items() for word in (kind, *words)}
_ID = re.compile(r"\d+|[0-9a-f]{8,}(?:-[0-9a-f]+)*")
_MOST_TEMPLATES = 8
_MOST_UNUSED = 20
_CONTROLS = dict.fromkeys((*range(32), 127), " ")
"""A comment in TOML holds no control character."""
_HEAD = "# A proposal of `foreshard observe check`. See docs/sources.md."


def likely_columns(values: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the likely field of each standard column, by the fields' names.

    ``values``: some values of each field. They tell the time and the request type, where no name does.
    """
    found = _by_names(values)
    free = {name: [one for one in given if one is not None] for name, given in values.items() if name not in found.values()}
    for column, is_likely in (("timestamp", _are_times), ("request_type", _are_types)):
        match = next((name for name, given in free.items() if given and is_likely(given)), None)
        if column not in found and match is not None:
            found[column] = match
    return {column: found[column] for column in _LIKELY if column in found}


def _are_times(values: Sequence[Any]) -> bool:
    """Whether the values are times. Plain numbers may be ids."""
    if any(str(value).isdigit() for value in values):
        return False
    times = as_times(pd.Series(list(values), dtype=object))
    return bool((times >= EARLIEST).all())


def _are_types(values: Sequence[Any]) -> bool:
    """Whether the values are words of usual requests, such as ``GET``."""
    return {str(value).lower() for value in values} <= _MEANING.keys()


def _by_names(names: Iterable[str]) -> dict[str, str]:
    plain = {re.sub(r"[^a-z]", "", name.rpartition(".")[2].lower()): name for name in names}
    found: dict[str, str] = {}
    for column, likely in _LIKELY.items():
        match = next((plain[word] for word in likely if word in plain and plain[word] not in found.values()), None)
        if match is not None:
            found[column] = match
    return found


def proposed_mapping(
    form: str, columns: Mapping[str, str], values: Mapping[str, Sequence[Any]], known_types: Iterable[str]
) -> str | None:
    """Return a mapping as TOML; None if the field of a required column can't be guessed.

    ``values``: some values of each field. Request types that are not known are mapped where their meaning is usual.
    """
    if any(name not in columns for name in ("timestamp", "partitionable_key", "request_type")):
        return None
    lines = [_HEAD, f'format = "{form}"', "", "[columns]", *(f"{name} = {_quoted(field)}" for name, field in columns.items())]
    seen = Counter(str(value) for value in values.get(columns["request_type"], ()) if value is not None)
    words = {value: value.lower() for value, _ in seen.most_common() if value not in set(known_types)}
    types = {value: _MEANING[word] for value, word in words.items() if word in _MEANING}
    if types:
        lines += ["", "[request_types]", *(f"{_quoted(value)} = {_quoted(kind)}" for value, kind in types.items())]
    keys = _templates(values.get(columns["partitionable_key"], ()))
    if keys:
        lines += ["", "[keys]", *(f"{_quoted(template)} = {_quoted(key)}" for template, key in keys.items())]
    unused = [name for name in values if name not in columns.values()]
    if unused:
        lines.insert(
            1, f"# Fields that it leaves out: {', '.join(name.translate(_CONTROLS) for name in unused[:_MOST_UNUSED])}"
        )
    return "\n".join(lines) + "\n"


def _templates(paths: Sequence[Any]) -> dict[str, str]:
    """Return templates for paths with an id, the most frequent first: ``/users/17/cart`` → ``/users/{id}*``."""
    shapes: Counter[str] = Counter()
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        parts = path.partition("?")[0].split("/")
        place = next((number for number, part in enumerate(parts) if _ID.fullmatch(part)), None)
        if place is not None:
            shapes["/".join(parts[:place])] += 1
    return {f"{start}/{{id}}*": f"{start.strip('/') or 'id'} {{id}}" for start, _ in shapes.most_common(_MOST_TEMPLATES)}


def _quoted(text: str) -> str:
    """Return text as a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
