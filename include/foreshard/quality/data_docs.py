"""Data Docs pages from Great Expectations' renderers: one per gate, suite and hour, and an index.

Its site builder is not used, because it renders every page again each time, and two gates that end at the same time would
delete each other's pages. Here each page is rendered once and passed to the gate's :class:`DataDocs`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PageFacts:
    """The validation that a page shows, and whether it passed."""

    gate: str
    suite: str
    hour: datetime
    success: bool

    @property
    def path(self) -> str:
        """The page's path in the site. Its links to the index depend on the number of folders."""
        return f"validations/{self.gate}/{self.suite}/{self.hour:%Y-%m-%d}/{self.hour:%H}/result.html"


class DataDocs(Protocol):
    """Stores pages."""

    def save_page(self, facts: PageFacts, page: str) -> None:
        """Store a page, replacing the one for the same gate, suite and hour."""

    def save_index(self) -> None:
        """Render and store the index of all stored pages."""


def render_page(facts: PageFacts, validation: Any) -> str:
    """Render the page of one validation (a GX ``ExpectationSuiteValidationResult``). Escapes its values in place."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    validation.meta["run_id"] = {"run_name": facts.hour.isoformat(), "run_time": facts.hour}
    _escape(validation)
    content = ValidationResultsPageRenderer().render(validation)
    page: str = DefaultJinjaPageView().render(content, show_how_to_buttons=False)
    return page


def render_index(pages: Sequence[PageFacts]) -> str:
    """Render the index that links ``pages``."""
    from great_expectations.render.renderer import SiteIndexPageRenderer
    from great_expectations.render.view import DefaultJinjaIndexPageView

    links = [
        {
            "expectation_suite_name": f"{facts.gate}.{facts.suite}",
            "expectation_suite_filepath": None,
            "filepath": facts.path,
            "batch_identifier": facts.suite,
            "validation_success": facts.success,
            "run_time": facts.hour.astimezone(UTC),
            "run_name": facts.hour.isoformat(),
            "asset_name": facts.gate,
        }
        for facts in pages
    ]
    content = SiteIndexPageRenderer.render({"site_name": "Foreshard's gates", "validations_links": links})
    page: str = DefaultJinjaIndexPageView().render(content, show_how_to_buttons=False)
    return page


def _escape(validation: Any) -> None:
    """Escape values from the log, which GX writes into the page without escaping."""
    for result in validation.results:
        result.result.update(_escaped({key: found for key, found in result.result.items() if key.startswith("partial_")}))
        result.expectation_config.kwargs.update(_escaped(dict(result.expectation_config.kwargs)))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return {key: _escaped(item) for key, item in value.items()} if isinstance(value, dict) else value
