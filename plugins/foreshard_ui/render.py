"""Fill the page's templates. Every value is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from foreshard_ui.overview import Overview

REFRESH_SECONDS = 15


def overview_page(overview: Overview) -> str:
    """Return the page."""
    return environment().get_template("overview.html").render(o=overview, refresh=REFRESH_SECONDS)


def trouble_page(line: str) -> str:
    """Return the page that is shown if the overview cannot be read."""
    return environment().get_template("trouble.html").render(line=line, refresh=REFRESH_SECONDS)


@cache
def environment() -> Environment:
    """Return the template environment, with autoescape on."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(curve=curve, percent=percent, moment=moment, ago=ago, amount=amount, size=size)
    return jinja


def curve(values: Sequence[float | None], width: int, height: int, top: float) -> str:
    """Return the values as an SVG path, with a gap where one is missing."""
    step, path, pen = width / max(len(values) - 1, 1), [], "M"
    for place, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{place * step:.1f} {height * (1 - min(value / top, 1.0)):.1f}")
        pen = "L"
    return "".join(path)


def percent(share: float | None) -> str:
    """Format a share in whole percent."""
    return "–" if share is None else f"{share * 100:.0f} %"


def amount(number: float | None) -> str:
    """Format a number with at least three significant digits."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"


def size(number: float | None) -> str:
    """Format bytes with a unit."""
    value = float(number or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def moment(at: datetime | None) -> str:
    """Format a time in UTC, to the minute."""
    return "–" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(at: datetime | None, now: datetime) -> str:
    """Format the time since ``at`` in its largest whole unit."""
    if at is None:
        return "never"
    seconds = max(int((now - at).total_seconds()), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
