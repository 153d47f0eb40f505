"""Progress bars, the same for every command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


def bars(unit: str = "", **options: Any) -> Progress:
    """Return bars with the finished and total count (``unit``) and the time. ``options`` are those of rich's ``Progress``."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    counted = (MofNCompleteColumn(), TextColumn(unit)) if unit else (MofNCompleteColumn(),)
    return Progress(TextColumn("{task.description}"), BarColumn(), *counted, TimeElapsedColumn(), **options)
