"""Checks suites of one row without Great Expectations, which takes half a second for each hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from foreshard.model import GateResult
from foreshard.quality._suite import Expectation, Severity, Suite


def of_one_row(gate: str, hour: datetime, suites: Sequence[Suite]) -> GateResult:
    """Return the result of ``suites`` whose frames have one row, and whose expectations are bounds of a value."""
    lines: dict[Severity, list[str]] = {severity: [] for severity in Severity}
    checked = 0
    for suite in suites:
        for expectation in suite.expectations:
            checked += 1
            if not _holds(expectation, float(suite.frame[expectation.arguments["column"]].iloc[0])):
                lines[expectation.severity].append(expectation.failure)
    final, warnings = tuple(lines[Severity.FINAL]), tuple(lines[Severity.WARN])
    failures = (*final, *lines[Severity.BLOCK])
    return GateResult(gate, hour, not failures, failures, checked, warnings, final)


def _holds(expectation: Expectation, value: float) -> bool:
    low, high = expectation.arguments["min_value"], expectation.arguments["max_value"]
    return (low is None or value >= low) and (high is None or value <= high)
