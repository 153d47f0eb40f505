"""Data Docs: one Great Expectations page per gate, suite and hour, and an index of the latest, all plain files.

``validations/GATE/SUITE/DATE/HH/result.html`` (with ``result.json`` beside it), ``expectations/GATE/SUITE.html`` and
``index.html``. Pages are made by Great Expectations' own renderers. Its site builder isn't used: it renders every page again
each time, and two gates that end together would delete each other's. Here each page is written once, in one step, and the
pages of the latest ``KEPT_DAYS`` dates are kept.
"""

from __future__ import annotations

import html
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KEPT_DAYS = 14
_STATIC = "static"


def write_page(docs_dir: Path, gate: str, suite: str, hour: datetime, validation: Any) -> Path:
    """Write the page of one validation (a GX ``ExpectationSuiteValidationResult``) and return its path."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    validation.meta["run_id"] = {"run_name": hour.isoformat(), "run_time": hour}
    folder = docs_dir / "validations" / gate / suite / f"{hour:%Y-%m-%d}" / f"{hour:%H}"
    page = folder / "result.html"
    _escape(validation)
    _write(page, _html(ValidationResultsPageRenderer().render(validation)))
    facts = {"suite": f"{gate}.{suite}", "hour": hour.isoformat(), "success": bool(validation.success)}
    _write(folder / "result.json", json.dumps(facts))
    _prune(folder.parent.parent)
    return page


def write_index(docs_dir: Path) -> Path:
    """Write ``index.html`` over the pages that stand there, newest hour first, and the style files they use."""
    from great_expectations.render.renderer import SiteIndexPageRenderer
    from great_expectations.render.view import DefaultJinjaIndexPageView

    _copy_static(docs_dir)
    links = []
    for file in sorted(docs_dir.glob("validations/*/*/*/*/result.json"), key=lambda path: path.parts[-3:], reverse=True):
        facts = json.loads(file.read_text(encoding="utf-8"))
        links.append(
            {
                "expectation_suite_name": facts["suite"],
                "expectation_suite_filepath": None,
                "filepath": file.with_suffix(".html").relative_to(docs_dir).as_posix(),
                "batch_identifier": facts["suite"],
                "validation_success": facts["success"],
                "run_time": datetime.fromisoformat(facts["hour"]).astimezone(UTC),
                "run_name": facts["hour"],
                "asset_name": facts["suite"].partition(".")[0],
            }
        )
    content = SiteIndexPageRenderer.render({"site_name": "Foreshard's gates", "validations_links": links})
    index = docs_dir / "index.html"
    _write(index, DefaultJinjaIndexPageView().render(content, show_how_to_buttons=False))
    return index


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


def _html(content: Any) -> str:
    from great_expectations.render.view import DefaultJinjaPageView

    page: str = DefaultJinjaPageView().render(content, show_how_to_buttons=False)
    return page


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(text)
    part = Path(file.name)
    part.chmod(0o644)
    part.replace(path)


def _prune(dates: Path) -> None:
    for old in sorted(folder for folder in dates.iterdir() if folder.is_dir())[:-KEPT_DAYS]:
        shutil.rmtree(old, ignore_errors=True)


def _copy_static(docs_dir: Path) -> None:
    import great_expectations.render.view as view

    if not (docs_dir / _STATIC).exists():
        styles = Path(view.__file__).parent / _STATIC / "styles"
        shutil.copytree(styles, docs_dir / _STATIC / "styles", dirs_exist_ok=True)
