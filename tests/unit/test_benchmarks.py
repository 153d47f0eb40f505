"""Every benchmark runs as the docs say: ``python tests/benchmarks/NAME_benchmark.py``, without PYTHONPATH."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def imports_too_early(source: str) -> list[int]:
    """The lines that import from the tests before a line that makes them importable."""
    found = []
    for statement in ast.parse(source).body:
        if "sys.path.insert" in ast.unparse(statement):
            break
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "tests":
            found.append(statement.lineno)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_benchmark.py")), ids=lambda path: path.stem)
def test_a_benchmark_can_import_its_own_parts(path: Path) -> None:
    assert imports_too_early(path.read_text()) == []


def test_an_import_that_is_too_early_would_be_found() -> None:
    assert imports_too_early("import sys\nfrom tests.slots import slot_map\nsys.path.insert(0, '')\n") == [2]
