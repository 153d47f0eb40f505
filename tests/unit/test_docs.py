"""The docs name files and pages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
BASES = (PROJECT, PROJECT / "include" / "foreshard", PROJECT / "docs", PROJECT / "tests")

CODE_PATH = re.compile(r"`([\w./-]+\.(?:py|md|yaml|yml|json|toml))`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
IMAGINED = re.compile(r"my_|partition_x|\.frt|^stack\.json$|^secrets\.json$|state\.json|previous")
"""Files that a reader makes, and files that Foreshard writes at run time."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_the_docs_exist(page: Path) -> None:
    named = {name for name in CODE_PATH.findall(page.read_text()) if "/" in name and not IMAGINED.search(name)}
    missing = sorted(name for name in named if not any((base / name).exists() for base in BASES))
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page: Path) -> None:
    broken = sorted(link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists())
    assert broken == []


def test_a_missing_file_would_be_found() -> None:
    assert CODE_PATH.findall("see `stages/nothing.py`") == ["stages/nothing.py"]
    assert LINK.findall("[x](gone.md#here) [y](https://example.com/z.md)") == ["gone.md"]
