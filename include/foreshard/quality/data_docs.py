"""Data Docs pages, made by Great Expectations' own renderers: one per gate, suite and hour, and an index of the latest.

Its site builder isn't used: it renders every page again each time, and two gates that end together would delete each other's
pages. Here a page is made once; where it is kept is the business of the :class:`DataDocs` that a gate is given.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PageFacts:
    """Which validation a page shows, and whether it passed."""

    gate: str
    suite: str
    hour: datetime
    success: bool

    @property
    def path(self) -> str:
        """Where the page stands in the site; its links to the index count on so many folders."""
        return f"validations/{self.gate}/{self.suite}/{self.hour:%Y-%m-%d}/{self.hour:%H}/result.html"


class DataDocs(Protocol):
    """Keeps pages."""

    def save_page(self, facts: PageFacts, page: str) -> None:
        """Keep a page, in place of the one for the same gate, suite and hour."""

    def save_index(self) -> None:
        """Make the index over the pages that stand."""


def render_page(facts: PageFacts, validation: Any) -> str:
    """The page of one validation (a GX ``ExpectationSuiteValidationResult``, whose texts are escaped by this)."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    validation.meta["run_id"] = {"run_name": facts.hour.isoformat(), "run_time": facts.hour}
    _escape(validation)
    content = ValidationResultsPageRenderer().render(validation)
    page: str = DefaultJinjaPageView().render(content, show_how_to_buttons=False)
    return page


def render_index(pages: Sequence[PageFacts]) -> str:
    """The page that links ``pages``."""
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
    """Make the log's own values harmless: GX writes the values that failed, and sets of values, into the page as they are."""
    for result in validation.results:
        result.result.update(_escaped({key: found for key, found in result.result.items() if key.startswith("partial_")}))
        result.expectation_config.kwargs.update(_escaped(dict(result.expectation_config.kwargs)))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return {key: _escaped(item) for key, item in value.items()} if isinstance(value, dict) else value
