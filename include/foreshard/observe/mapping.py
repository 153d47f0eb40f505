"""Gives the records of a source the standard columns, by its mapping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pandas as pd

from foreshard.model import READ_COLUMNS, BoolArray
from foreshard.observe.clean import MALFORMED, SOURCE
from foreshard.observe.factorising import factorised
from foreshard.observe.values import as_text
from foreshard.settings import SourceMapping

OTHERS = "*"
"""In a map of values: all values that it does not name."""


@dataclass(frozen=True)
class Mapped:
    """Records with the standard columns. ``kept``: which raw records they are; ``only`` or ``keys`` leave the others out."""

    records: pd.DataFrame
    kept: BoolArray


def mapped(raw: pd.DataFrame, mapping: SourceMapping) -> Mapped:
    """Return raw fields as standard columns. Malformed records stay."""
    broken = raw[MALFORMED].isin([True]).to_numpy(np.bool_) if MALFORMED in raw else np.zeros(len(raw), np.bool_)
    chosen = broken | _chosen(raw, mapping)
    columns = {name: _first_given(raw, fields) for name, fields in mapping.columns.items()}
    if mapping.keys:
        columns["partitionable_key"], known = _keys(columns["partitionable_key"], mapping.keys)
        chosen &= broken | known
    columns["request_type"] = _valued(columns["request_type"], mapping.request_types)
    if "location" in columns:
        columns["location"] = _located(columns["location"], mapping.locations)
    for name in ("user_id", "session_id"):
        if name in columns:
            columns[name] = columns[name].mask(columns[name] == "-")
    if mapping.times:
        columns["timestamp"] = _timed(columns["timestamp"], mapping.times)
    made = pd.DataFrame({name: columns[name] for name in READ_COLUMNS if name in columns}, dtype=object)
    for name in (MALFORMED, SOURCE):
        if name in raw:
            made[name] = raw[name]
    return Mapped(made[chosen].reset_index(drop=True), chosen)


_HOLE = re.compile(r"\{(\w+)\}")


def _chosen(raw: pd.DataFrame, mapping: SourceMapping) -> BoolArray:
    chosen = np.ones(len(raw), np.bool_)
    for field, values in mapping.needed.items():
        chosen &= _field(raw, field).isin(values).to_numpy(np.bool_)
    return chosen


def _field(raw: pd.DataFrame, field: str) -> pd.Series[Any]:
    return raw[field].astype(object) if field in raw else pd.Series([None] * len(raw), index=raw.index, dtype=object)


def _first_given(raw: pd.DataFrame, fields: tuple[str, ...]) -> pd.Series[Any]:
    """Return each record's first of these fields that has a value."""
    made = _field(raw, fields[0])
    for field in fields[1:]:
        made = made.where(made.notna(), _field(raw, field))
    return made


def _each(column: pd.Series[Any], make: Any) -> pd.Series[Any]:
    """Return ``make`` of each value as text. It is called once for each distinct value."""
    codes, names = factorised(as_text(column).values)
    made = np.empty(len(names) + 1, dtype=object)
    made[:-1] = [make(name) for name in names]
    return pd.Series(made[codes], index=column.index, dtype=object)


def _valued(column: pd.Series[Any], values: Mapping[str, str]) -> pd.Series[Any]:
    return _each(column, lambda name: values.get(name, values.get(OTHERS, name))) if values else column


def _located(column: pd.Series[Any], places: Mapping[str, str]) -> pd.Series[Any]:
    """Return locations by name or network. An address without a location is dropped: it may name a user."""
    networks = []
    for text, place in places.items():
        try:
            networks.append((ip_network(text), place))
        except ValueError:
            continue
    networks.sort(key=lambda one: -one[0].prefixlen)

    def place_of(name: str) -> str | None:
        try:
            address = ip_address(_without_port(name))
        except ValueError:
            return places.get(name, places.get(OTHERS, name))
        return next((place for network, place in networks if address in network), places.get(OTHERS))

    return _each(column, place_of)


def _without_port(name: str) -> str:
    """Return an address without its port: ``10.1.2.3:4567`` → ``10.1.2.3``, ``[::1]:80`` → ``::1``."""
    found = re.fullmatch(r"\[(.+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+", name)
    return (found[1] or found[2]) if found else name


def _keys(column: pd.Series[Any], templates: Mapping[str, str]) -> tuple[pd.Series[Any], BoolArray]:
    """Return the keys of the first templates that match, and which records match one."""
    compiled = [(_path(template), key) for template, key in templates.items()]

    def key_of(path: str) -> str | None:
        plain = re.split(r"[?#]", path, maxsplit=1)[0]
        for pattern, key in compiled:
            if found := pattern.fullmatch(plain):
                return _HOLE.sub(lambda hole: found[hole[1]], key)
        return None

    made = _each(column, key_of)
    return made, made.notna().to_numpy(np.bool_)


def _path(template: str) -> re.Pattern[str]:
    """Compile a template: ``{name}`` is one part of a path, ``*`` is any rest."""
    parts = re.split(r"(\{\w+\}|\*)", template)
    return re.compile(
        "".join(
            f"(?P<{part[1:-1]}>[^/]+)" if _HOLE.fullmatch(part) else ".*" if part == "*" else re.escape(part) for part in parts
        )
    )


def _timed(column: pd.Series[Any], form: str) -> pd.Series[Any]:
    """Return times of this form as ISO 8601; other texts stay unchanged."""
    zoned = "%z" in form
    times = pd.to_datetime(column, format=form, errors="coerce", utc=zoned)
    texts = times.dt.strftime("%Y-%m-%dT%H:%M:%S.%f" + ("+00:00" if zoned else ""))
    return texts.astype(object).where(times.notna(), column)
