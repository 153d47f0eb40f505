"""One word for one thing: a public name is defined once in the library, and a private module stays in its room."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_architecture import LIBRARY, complain, imports_of, module_name, sources

CAMEL_CASE = re.compile(r"[A-Z][a-z]\w*")
"""Classes and type aliases. Constants and functions may repeat: their module says which is meant."""
SAME_MEANING = {"Document"}
"""Names that may be defined more than once, because each definition is the same alias."""


def defined_in(text: str) -> Iterator[str]:
    """The public classes and type aliases that a module defines at its top level."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_no_public_name_is_defined_in_two_files() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in sources(LIBRARY):
        for name in defined_in(path.read_text()):
            if CAMEL_CASE.fullmatch(name) and name not in SAME_MEANING:
                places[name].add(module_name(path))
    doubles = [f"{name}: {', '.join(sorted(modules))}" for name, modules in sorted(places.items()) if len(modules) > 1]
    complain(doubles, "one name for several things: give each its own")


def test_a_name_that_is_defined_twice_would_be_found() -> None:
    assert list(defined_in("class Move: ...\nPlan = dict[str, int]\nlimit = 3")) == ["Move", "Plan", "limit"]


def test_private_modules_are_imported_in_their_own_room_only() -> None:
    """A room's folders belong to it. Tests may look inside; nothing else may."""
    strays = [
        str(found)
        for path in sources(LIBRARY)
        for found in imports_of(path)
        if (room := private_room(found.module)) and not f"{room_path(path)}.".startswith(f"{room}.")
    ]
    complain(strays, "a private module (`_name.py`) that is used outside its room: rename it, or use the room's surface")


def private_room(module: str) -> str | None:
    """The package of a module whose last part, or the part before it, begins with an underscore."""
    parts = module.split(".")
    private = next((n for n, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")), None)
    return ".".join(parts[:private]) if private and parts[0] == "foreshard" else None


def room_path(path: Path) -> str:
    return ".".join(path.parent.relative_to(LIBRARY.parent).parts)
