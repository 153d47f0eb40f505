"""The demo's progress: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5.0


class Step:
    """One running step. Any thread may call its methods."""

    def __init__(self, title: str, total: int | None, console: Console, progress: Progress | None) -> None:
        self._title, self._total, self._console, self._progress = title, total, console, progress
        self._task: TaskID | None = progress.add_task(title, total=total, note="") if progress else None
        self._done = 0
        self._note = ""
        self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        """Add ``count`` to the finished part."""
        with self._lock:
            self._done += count
            self._show()

    def set_done(self, done: int, total: int | None = None) -> None:
        """Set the finished part to ``done`` of ``total``."""
        with self._lock:
            self._done, self._total = done, total or self._total
            self._show()

    def note(self, text: str) -> None:
        """Show what the step is doing now."""
        with self._lock:
            self._note = text
            self._show()

    def _show(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, total=self._total, note=self._note)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            counted = f" {self._done:,}/{self._total:,}" if self._total else ""
            self._console.print(f"    …{counted} {self._note}", highlight=False)


class Steps:
    """Numbers the demo's steps and shows their seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._number = 0

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Show one step while the block runs, and its duration."""
        self._number += 1
        numbered = f"{self._number:>2}  {title}"
        begun = time.monotonic()
        if self.console.is_terminal:
            with self._progress(total) as progress:
                yield Step(numbered, total, self.console, progress)
        else:
            self.console.print(numbered, highlight=False)
            yield Step(numbered, total, self.console, None)
        self.console.print(f"    done in {time.monotonic() - begun:.1f} s", style="dim", highlight=False)

    def _progress(self, total: int | None) -> Progress:
        counts = (BarColumn(bar_width=30), MofNCompleteColumn()) if total else (SpinnerColumn(),)
        columns = (TextColumn("{task.description}"), *counts, TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
        return Progress(*columns, console=self.console)
