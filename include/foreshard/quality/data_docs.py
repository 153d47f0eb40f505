"""Data Docs: one page per gate, suite and hour with the results of Great Expectations, and an index.

Great Expectations' own pages load styles, scripts and a logo from seven hosts, and are bare without them. These pages carry
their style and load nothing. Each is rendered once and passed to the gate's :class:`DataDocs`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --warn: #9a6700; --bad: #cf222e }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --warn: #d29922; --bad: #f85149 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line) }
td { overflow-wrap: anywhere } .mark { white-space: nowrap; font-weight: 600 }
.passed { color: var(--good) } .warns { color: var(--warn) } .stops { color: var(--bad) } .rest { opacity: .7 }
"""


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


@dataclass(frozen=True, slots=True)
class CheckedExpectation:
    """An expectation and its result. ``mark`` is ``passed``, ``warns`` or ``stops``; ``line`` says what is wrong.

    ``bad`` of ``rows`` values failed, such as the ``examples``; None where Great Expectations has not counted them.
    """

    claim: str
    mark: str
    line: str = ""
    rows: int | None = None
    bad: int | None = None
    examples: tuple[str, ...] = ()


class DataDocs(Protocol):
    """Stores pages."""

    def save_page(self, facts: PageFacts, page: str) -> None:
        """Store a page, replacing the one for the same gate, suite and hour."""

    def save_index(self) -> None:
        """Render and store the index of all stored pages."""


def render_page(facts: PageFacts, checked: Sequence[CheckedExpectation]) -> str:
    """Render the page of one validation. Values from the log are escaped."""
    rows = [
        (_mark(one.mark), html.escape(one.claim), html.escape(one.line), html.escape(_counted(one)), _shown(one.examples))
        for one in checked
    ]
    failed = sum(one.mark != "passed" for one in checked)
    said = "passed" if not failed else f"{failed} of {len(checked)} expectations failed"
    table = _table(("", "expectation", "finding", "rows", "examples"), rows)
    home = "../" * facts.path.count("/")
    title = f"{facts.gate} · {facts.suite} · {facts.hour:%Y-%m-%d %H:%MZ}"
    return _page(title, f'<p>{said} · <a href="{home}index.html">all results</a></p>{table}')


def render_index(pages: Sequence[PageFacts]) -> str:
    """Render the index that links ``pages``, in their order."""
    rows = [
        (
            _mark("passed" if facts.success else "stops"),
            f"{facts.hour:%Y-%m-%d %H:%MZ}",
            html.escape(facts.gate),
            f'<a href="{html.escape(facts.path)}">{html.escape(facts.suite)}</a>',
        )
        for facts in pages
    ]
    return _page("Foreshard's gates", _table(("", "hour (UTC)", "gate", "suite"), rows))


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    icon = '<link rel="icon" href="data:,">'
    start = f'<!DOCTYPE html><html lang="en"><head>{head}{icon}<style>{STYLE}</style></head>'
    return f"{start}<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Its cells are HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    lines = ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _mark(mark: str) -> str:
    return f'<span class="mark {mark}">{mark}</span>'


def _counted(one: CheckedExpectation) -> str:
    if one.rows is None:
        return ""
    return f"{one.rows:,}" if not one.bad else f"{one.bad:,} of {one.rows:,}"


def _shown(examples: Sequence[str]) -> str:
    return "<br>".join(f"<code>{html.escape(example)}</code>" for example in examples)
