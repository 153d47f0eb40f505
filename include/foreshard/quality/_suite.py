"""A gate's expectations as data, without importing Great Expectations."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd


class Severity(StrEnum):
    """What a failed expectation does: ``block`` stops the hour until a person accepts it, ``warn`` is shown with the run.

    ``final`` stops the hour, and no person can accept it.
    """

    FINAL = "final"
    BLOCK = "block"
    WARN = "warn"


_FINAL = {Severity.FINAL: Severity.FINAL, Severity.BLOCK: Severity.FINAL, Severity.WARN: Severity.WARN}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation: ``kind`` is its Great Expectations class, ``arguments`` its parameters.

    ``claim`` states the expectation in Data Docs. ``failure`` is the line shown if it fails. In it, ``{bad}``, ``{all}`` and
    ``{examples}`` are replaced by the number of failed rows, the number of rows, and a few failed values.
    """

    kind: str
    arguments: Mapping[str, Any]
    claim: str
    failure: str
    severity: Severity = Severity.BLOCK


@dataclass(frozen=True)
class Suite:
    """The expectations on one frame; its ``name`` is unique within the gate."""

    name: str
    frame: pd.DataFrame
    expectations: tuple[Expectation, ...]


def not_null(column: str, failure: str) -> Expectation:
    """Every row has a value in ``column``."""
    return Expectation("ExpectColumnValuesToNotBeNull", {"column": column}, f"every row has a {column}", failure)


def unique(column: str, failure: str) -> Expectation:
    """No value of ``column`` appears twice."""
    return Expectation("ExpectColumnValuesToBeUnique", {"column": column}, f"no {column} appears twice", failure)


def known(column: str, values: tuple[str, ...], failure: str) -> Expectation:
    """Every value of ``column`` is one of ``values``."""
    arguments = {"column": column, "value_set": sorted(values)}
    return Expectation("ExpectColumnValuesToBeInSet", arguments, f"every {column} is known", failure)


def between(column: str, low: float | None, high: float | None, claim: str, failure: str) -> Expectation:
    """Every value of ``column`` is in [low, high]; None means unbounded."""
    arguments = {"column": column, "min_value": low, "max_value": high}
    return Expectation("ExpectColumnValuesToBeBetween", arguments, claim, failure)


def below(column: str, high: float, claim: str, failure: str) -> Expectation:
    """Every value of ``column`` is in [0, high)."""
    arguments = {"column": column, "min_value": 0, "max_value": high, "strict_max": True}
    return Expectation("ExpectColumnValuesToBeBetween", arguments, claim, failure)


def warns(expectation: Expectation) -> Expectation:
    """Return the expectation with the severity ``warn``."""
    return replace(expectation, severity=Severity.WARN)


def final(suite: Suite) -> Suite:
    """Return the suite with no failure that a person could accept."""
    return replace(suite, expectations=tuple(replace(one, severity=_FINAL[one.severity]) for one in suite.expectations))


def of_values(name: str, valued: Sequence[tuple[float, Expectation]]) -> Suite:
    """Return a suite of one value for each expectation."""
    frame = pd.DataFrame({expectation.arguments["column"]: [value] for value, expectation in valued})
    return Suite(name, frame, tuple(expectation for _, expectation in valued))


def figure(value: float) -> str:
    """Format a figure for people: integers from a thousand on, else four significant digits."""
    readable = math.isfinite(value) and abs(value) < 1e15
    if readable and (abs(value) >= 1000 or value == int(value)):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def few(keys: Collection[str]) -> str:
    """Return the first three of the sorted ``keys``, for a failure's line."""
    return ", ".join(repr(key) for key in sorted(keys)[:3]) + (", …" if len(keys) > 3 else "")
