"""Runs suites in Great Expectations and converts its results to one line per failure.

Great Expectations is imported when a gate runs (some seconds, 300 MB). It works on frames in memory, writes no project, and
sends no telemetry.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any

from foreshard.measure.collector_pause import collector_paused
from foreshard.model import GateResult
from foreshard.quality._suite import Expectation, Severity, Suite
from foreshard.quality.data_docs import CheckedExpectation, DataDocs, PageFacts, render_page

EXAMPLES = 5
_POSITION = "position"


def run(gate: str, hour: datetime, suites: Sequence[Suite], docs: DataDocs | None = None) -> GateResult:
    """Validate every suite, pass its Data Docs page to ``docs``, and return the failures and warnings.

    A page is red if the hour is stopped. A warning is marked in its page, and leaves it green in the index.
    """
    gx = load_great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    lines: dict[Severity, list[str]] = {severity: [] for severity in Severity}
    for suite in suites:
        validation = _validate(gx, context, gate, suite)
        found = _failures(suite.expectations, validation.results)
        for severity, line in found:
            lines[severity].append(line)
        if docs is not None:
            facts = PageFacts(gate, suite.name, hour, all(severity is Severity.WARN for severity, _ in found))
            docs.save_page(facts, render_page(facts, _checked(suite.expectations, validation.results)))
    if docs is not None:
        docs.save_index()
    final, warnings = tuple(lines[Severity.FINAL]), tuple(lines[Severity.WARN])
    failures = (*final, *lines[Severity.BLOCK])
    return GateResult(gate, hour, not failures, failures, sum(len(suite.expectations) for suite in suites), warnings, final)


def load_great_expectations() -> ModuleType:
    """Import Great Expectations without the deprecation warnings of its imports.

    The cyclic garbage collector is paused meanwhile: it took three tenths of the time, and freed next to nothing.
    """
    with collector_paused(), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        import great_expectations
        import great_expectations.expectations
    module: ModuleType = great_expectations
    return module


def _validate(gx: ModuleType, context: Any, gate: str, suite: Suite) -> Any:
    expectations = [
        getattr(gx.expectations, expectation.kind)(
            **expectation.arguments, description=expectation.claim, meta={_POSITION: position}
        )
        for position, expectation in enumerate(suite.expectations)
    ]
    source = context.data_sources.add_pandas(f"{gate}.{suite.name}")
    definition = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe(gate)
    batch = definition.get_batch({"dataframe": suite.frame})
    return batch.validate(
        gx.ExpectationSuite(name=f"{gate}.{suite.name}", expectations=expectations),
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
    )


def _failures(expectations: Sequence[Expectation], results: Iterable[Any]) -> list[tuple[Severity, str]]:
    by_position = {result.expectation_config.meta[_POSITION]: result for result in results}
    lines = []
    for position, expectation in enumerate(expectations):
        result = by_position.get(position)
        if result is None:
            lines.append((Severity.FINAL, f"{expectation.claim}: it was not checked"))
        elif not result.success:
            raised = _raised(result.exception_info or {})
            lines.append((Severity.FINAL if raised else expectation.severity, _line(expectation, result, raised)))
    return lines


def _checked(expectations: Sequence[Expectation], results: Iterable[Any]) -> list[CheckedExpectation]:
    """Return what a page shows of each expectation that was checked."""
    marks = {Severity.FINAL: "stops", Severity.BLOCK: "stops", Severity.WARN: "warns"}
    shown = []
    for result in results:
        expectation = expectations[result.expectation_config.meta[_POSITION]]
        raised, found = _raised(result.exception_info or {}), dict(result.result or {})
        mark = "passed" if result.success else "stops" if raised else marks[expectation.severity]
        line = "" if result.success else _line(expectation, result, raised)
        counts = (found.get("element_count"), found.get("unexpected_count"))
        shown.append(CheckedExpectation(expectation.claim, mark, line, *counts, tuple(_examples(found))))
    return shown


def _examples(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(repr(value) for value in found.get("partial_unexpected_list", ())))[:EXAMPLES]


def _line(expectation: Expectation, result: Any, raised: str) -> str:
    if raised:
        return f"{expectation.claim}: it could not be checked ({raised})"
    found = dict(result.result)
    return (
        expectation.failure.replace("{bad}", f"{found.get('unexpected_count', '?'):,}" if "unexpected_count" in found else "?")
        .replace("{all}", f"{found['element_count']:,}" if "element_count" in found else "?")
        .replace("{examples}", ", ".join(_examples(found)))
    )


def _raised(exception_info: Any) -> str:
    """Return the first line of the exception behind a result, or an empty string. GX nests exceptions in two ways."""
    entries = [exception_info] if "raised_exception" in exception_info else list(exception_info.values())
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "no message").strip().splitlines()[0]
    return ""
