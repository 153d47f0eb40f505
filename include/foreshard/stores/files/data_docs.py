"""Data Docs as plain files: ``validations/GATE/SUITE/DATE/HH/result.html`` with ``result.json``, and ``index.html``.

Each file appears whole or not at all, so gates may finish at the same time. Pages of the latest ``KEPT_DAYS`` dates are kept.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from foreshard.quality.data_docs import PageFacts, render_index

KEPT_DAYS = 14


class DataDocsFolder:
    """Stores the gates' Data Docs under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_page(self, facts: PageFacts, page: str) -> None:
        """Write the page and delete old pages."""
        path = self.folder / facts.path
        _write(path, page)
        noted = {"gate": facts.gate, "suite": facts.suite, "hour": facts.hour.isoformat(), "success": facts.success}
        _write(path.with_suffix(".json"), json.dumps(noted))
        dates = path.parents[2]
        for old in sorted(folder for folder in dates.iterdir() if folder.is_dir())[:-KEPT_DAYS]:
            shutil.rmtree(old, ignore_errors=True)

    def save_index(self) -> None:
        """Write ``index.html`` for all pages, newest hour first."""
        notes = sorted(self.folder.glob("validations/*/*/*/*/result.json"), key=lambda path: path.parts[-3:], reverse=True)
        _write(self.folder / "index.html", render_index([facts for note in notes if (facts := _facts(note))]))


def _facts(note: Path) -> PageFacts | None:
    """Return what a page shows; None if another process has just deleted it."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return PageFacts(noted["gate"], noted["suite"], datetime.fromisoformat(noted["hour"]), noted["success"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(text)
    part = Path(file.name)
    part.chmod(0o644)
    part.replace(path)
