"""Converts raw columns to text, times and costs, without a loop over rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from foreshard.model import BoolArray
from foreshard.model.key_space import SLOT_MARK, KeyType, UnusableKey, canonical_key
from foreshard.observe.factorising import factorised

_EPOCH_UNITS = ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (math.inf, 1))
"""(limit, nanoseconds per unit): epoch numbers below the limits are seconds, milliseconds, microseconds and nanoseconds."""

LONGEST_INTEGER = 20
"""Characters of the longest 64-bit integer as text."""

_EPOCH_TEXT = r"[+-]?\d{9,19}(?:\.\d+)?"
_NANOSECONDS_LIMIT = 9.2e18
_LARGEST_FLOAT = 10**308


NUL = "\0"
_FIRST_TIME, _LAST_TIME = pd.Timestamp("1678-01-01", tz="UTC"), pd.Timestamp("2262-01-01", tz="UTC")
"""Times in nanoseconds are between these."""


@dataclass(frozen=True)
class Text:
    """A column as text. ``given``: neither missing nor blank. A value that is given but None is unreadable.

    ``nul``: texts with a NUL character. They are unreadable, because much software takes the NUL for the end of the text.
    """

    values: pd.Series[str]
    given: BoolArray
    nul: BoolArray


def as_text(column: pd.Series[Any], maximum_bytes: int | None = None) -> Text:
    """Return the column as text; None if a value is missing, blank, not a scalar, too long, or not encodable in UTF-8.

    Integers lose the ``.0`` that they have in a column with gaps, so that 5 and 5.0 are one name.
    """
    plain = column.reset_index(drop=True)
    codes, uniques = factorised(plain)
    if uniques.dtype.kind in "iu" and (maximum_bytes is None or maximum_bytes >= LONGEST_INTEGER):
        numbers = np.fromiter([*map(str, uniques.tolist()), None], dtype=object, count=len(uniques) + 1)
        return Text(pd.Series(numbers[codes], name=column.name, dtype=object), codes >= 0, np.zeros(len(plain), np.bool_))
    made = np.fromiter([*uniques.tolist(), None], dtype=object, count=len(uniques) + 1)
    given = np.append(_is_name(made[:-1], maximum_bytes), False)
    nul = np.zeros(len(made), np.bool_)
    for at in np.flatnonzero(~given[:-1]):
        name = _text(made[at])
        made[at] = name if name is not None and _writable(name, maximum_bytes) else None
        given[at] = name is None or bool(name.strip())
        nul[at] = name is not None and NUL in name
    return Text(pd.Series(made[codes], name=column.name, dtype=object), given[codes], nul[codes])


def as_keys(text: pd.Series[Any], key_type: KeyType) -> pd.Series[Any]:
    """Return text as canonical keys; None if it is not a key of this type, or begins with the mark of slots."""
    codes, uniques = factorised(text)
    made = np.fromiter((_key(name, key_type) for name in (*uniques.tolist(), None)), dtype=object, count=len(uniques) + 1)
    return pd.Series(made[codes], name=text.name, dtype=object)


def _key(name: str | None, key_type: KeyType) -> str | None:
    if name is None or name.startswith(SLOT_MARK):
        return None
    try:
        return canonical_key(name, key_type)
    except UnusableKey:
        return None


def as_times(column: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    """Return the column as aware UTC times; NaT if a value is invalid.

    Accepts times (naive ones as UTC), ISO 8601 text, and seconds, milliseconds, microseconds or nanoseconds since 1970.
    """
    plain = column.reset_index(drop=True)
    if pd.api.types.is_datetime64_any_dtype(plain.dtype):
        return _coerce(plain)
    if pd.api.types.is_bool_dtype(plain.dtype):
        return pd.Series(pd.NaT, index=plain.index, dtype="datetime64[ns, UTC]")
    if pd.api.types.is_numeric_dtype(plain.dtype):
        return _from_epoch(plain)
    return _from_objects(plain.astype(object))


def as_costs(column: pd.Series[Any]) -> tuple[pd.Series[float], BoolArray]:
    """Return the column as numbers (NaN: not measured), and which values are given but not finite numbers."""
    plain = column.reset_index(drop=True)
    if plain.dtype == object and not _is_plain(plain):
        plain = plain.map(_scalar)
    if pd.api.types.is_bool_dtype(plain.dtype):
        plain = plain.astype(object).map(_scalar)
    numbers = _numbers(plain)
    finite = np.isfinite(numbers.to_numpy())
    unreadable = ~finite
    unreadable[unreadable] = is_given(plain[unreadable])
    return numbers.where(finite), unreadable


def _numbers(column: pd.Series[Any]) -> pd.Series[float]:
    """Return numbers and texts of numbers as floats; NaN for all else, and for integers beyond the range of floats."""
    try:
        return pd.to_numeric(column, errors="coerce").astype("float64")
    except OverflowError:
        return pd.to_numeric(column.map(_in_range), errors="coerce").astype("float64")


def _in_range(value: Any) -> Any:
    """``value``, or infinity if it is an integer beyond the range of floats."""
    return math.inf if isinstance(value, int) and abs(value) >= _LARGEST_FLOAT else value


def is_given(column: pd.Series[Any]) -> BoolArray:
    """Return which values are given: neither missing nor blank."""
    return as_text(column).given


def _is_plain(column: pd.Series[Any]) -> bool:
    return pd.api.types.infer_dtype(column, skipna=True) in {"string", "integer", "floating", "mixed-integer-float", "empty"}


def _scalar(value: Any) -> Any:
    """``value``, or an empty tuple (which counts as unreadable) if it is a container or a truth value."""
    return () if isinstance(value, list | dict | set | tuple | np.ndarray | bool | np.bool_) else value


def _is_name(values: npt.NDArray[Any], maximum_bytes: int | None) -> BoolArray:
    """Return which values are certainly names, by a fast check: text of valid length with a visible ASCII character."""
    if pd.api.types.infer_dtype(values, skipna=False) != "string":
        return np.zeros(len(values), np.bool_)
    try:
        names = pa.array(values, pa.string())
    except UnicodeEncodeError:
        return np.zeros(len(values), np.bool_)
    visible: BoolArray = pc.match_substring_regex(names, "[!-~]").to_numpy(zero_copy_only=False)
    visible &= ~np.asarray(pc.match_substring(names, NUL).to_numpy(zero_copy_only=False), np.bool_)
    return visible if maximum_bytes is None else visible & (pc.binary_length(names).to_numpy() <= maximum_bytes)


def _text(value: Any) -> str | None:
    """Return a value as text (empty if blank), or None if it cannot be a name."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, tuple):
        return None
    try:
        return value if isinstance(value, str) else str(value)
    except ValueError:  # an integer of thousands of digits
        return None


def _writable(text: str, maximum_bytes: int | None) -> bool:
    """Return whether ``text`` is not blank, without a NUL, encodable in UTF-8, and not too long."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return False
    return bool(text.strip()) and NUL not in text and (maximum_bytes is None or size <= maximum_bytes)


def _from_objects(column: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "string":
        return _from_text(column)
    if kind in {"datetime", "datetime64"}:
        return _coerce(column)
    is_text = column.map(lambda value: isinstance(value, str)).to_numpy(dtype=np.bool_)
    is_number = column.map(_is_number).to_numpy(dtype=np.bool_)
    others = column.where(~is_text & ~is_number & column.map(lambda value: hasattr(value, "year")).to_numpy(dtype=np.bool_))
    times = _coerce(others)
    times[is_text] = _from_text(column[is_text])
    times[is_number] = _from_epoch(_numbers(column[is_number]))
    return times


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _from_text(column: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    stripped = column.str.strip()
    number = stripped.str.fullmatch(_EPOCH_TEXT, na=False).to_numpy(dtype=np.bool_)
    times = _coerce(stripped.where(~number), format="ISO8601")
    if number.any():
        exact = pd.to_numeric(stripped[number], errors="coerce")
        times[number] = _from_epoch(exact)
    return times


def _coerce(column: pd.Series[Any], **options: Any) -> pd.Series[pd.Timestamp]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        times = column.dt.tz_convert("UTC")
    else:
        times = pd.to_datetime(column, utc=True, errors="coerce", **options)
    if times.dtype != "datetime64[ns, UTC]":
        times = times.where((times > _FIRST_TIME) & (times < _LAST_TIME))
    made: pd.Series[pd.Timestamp] = times.astype("datetime64[ns, UTC]")
    return made


def _from_epoch(column: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole = column.to_numpy(dtype=np.int64) if pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans else None
    nanoseconds = np.full(len(values), np.iinfo(np.int64).min, dtype=np.int64)  # NaT
    size, lower = np.abs(values), 0.0
    for upper, factor in _EPOCH_UNITS:
        here = (size >= lower) & (size < upper) & (size < _NANOSECONDS_LIMIT / factor)
        if whole is not None:
            nanoseconds[here] = whole[here] * factor
        elif factor >= 1000:
            nanoseconds[here] = np.round(values[here] * (factor // 1000)).astype(np.int64) * 1000
        else:
            nanoseconds[here] = values[here].astype(np.int64)
        lower = upper
    return pd.Series(nanoseconds.view("datetime64[ns]"), index=column.index).dt.tz_localize("UTC")
