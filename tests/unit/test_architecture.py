"""Imports run one way, from the edge to the core, and files stay small. Read from the source, so that lazy imports count too.

dags, plugins, cli, sidecar, demo → stages → state machines → ports → model, errors
                                    stages → pure rooms → model, errors
dags, plugins, cli, sidecar, demo → wiring → stores → ports
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LIBRARY = PROJECT / "include" / "foreshard"

FOUNDATION = {"model", "errors"}
SHARED_PURE = {"measure"}
PURE = {"observe", "quality", "forecast", "plan", "consistency", "routing", "lab", "watch"}
STATE_MACHINES = {"move", "shadow"}
EDGES = {"cli", "sidecar", "demo", "client", "stack"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "model": set(),
    **dict.fromkeys(SHARED_PURE, FOUNDATION | SHARED_PURE),
    "settings": FOUNDATION,
    "ports": FOUNDATION | {"consistency"},
    **{room: FOUNDATION | SHARED_PURE | {"settings"} for room in PURE},
    "lab": FOUNDATION | SHARED_PURE | {"settings", "observe", "forecast", "plan", "routing"},
    **{room: FOUNDATION | SHARED_PURE | {"settings", "ports", "consistency"} for room in STATE_MACHINES},
    "stores": FOUNDATION | SHARED_PURE | PURE | {"settings", "ports"},
    "wiring": FOUNDATION | {"settings", "ports", "stores"},
    "stages": FOUNDATION | SHARED_PURE | PURE | STATE_MACHINES | {"settings", "ports"},
    "client": FOUNDATION | SHARED_PURE | {"settings", "ports", "stores", "routing", "observe", "wiring"},
    "sidecar": FOUNDATION | SHARED_PURE | {"settings", "ports", "stores", "routing", "wiring"},
    "stack": FOUNDATION | {"settings"},
    "demo": FOUNDATION | SHARED_PURE | PURE | {"settings", "ports", "wiring", "stages", "client", "stack", "stores"},
    "cli": FOUNDATION | SHARED_PURE | PURE | STATE_MACHINES
    | {"settings", "ports", "wiring", "stores", "stages", "sidecar", "client", "stack", "demo"},
}  # fmt: skip
"""Room → the rooms it may import (besides itself)."""

IO_LIBRARIES = {
    "airflow", "asyncio", "bson", "confluent_kafka", "fastapi", "gridfs", "http", "httpx", "pymongo", "requests", "shutil",
    "socket",
    "sqlite3", "starlette", "subprocess", "tempfile", "threading", "urllib", "uvicorn", "uvloop",
}  # fmt: skip
"""What a pure room may not import: the network, processes, and databases."""

MAXIMUM_LINES = 300
MAXIMUM_DAG_LINES = 100
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


@dataclass(frozen=True)
class Import:
    """One import statement: the file and line where it stands, and the module that it names."""

    path: Path
    line: int
    module: str
    checked_only: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(PROJECT)}:{self.line} imports {self.module}"


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import of a file, at any depth; ``checked_only`` marks those under ``if TYPE_CHECKING``."""
    return tuple(_imports(ast.parse(path.read_text()), path, False))


def _imports(node: ast.AST, path: Path, checked_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(path, child.lineno, alias.name, checked_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(path, child.lineno, module, checked_only) for module in _named(child, path))
        else:
            is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, path, checked_only or is_guard)


def _named(statement: ast.ImportFrom, path: Path) -> list[str]:
    base = statement.module or ""
    if statement.level:
        package = list(path.relative_to(PROJECT / "include").parts[: -statement.level])
        base = ".".join([*package, *([base] if base else [])])
    if base in {"foreshard", *(f"foreshard.{room}" for room in ALLOWED)}:
        submodules = [f"{base}.{alias.name}" for alias in statement.names if _is_module(f"{base}.{alias.name}")]
        return submodules or [base]
    return [base]


def _is_module(name: str) -> bool:
    place = PROJECT / "include" / Path(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def room_named(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "foreshard" and len(parts) > 1 else None


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT / "include").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def complain(violations: list[str], rule: str) -> None:
    if violations:
        pytest.fail(f"{rule}:\n  " + "\n  ".join(violations), pytrace=False)


def test_every_room_has_its_place_in_the_direction_of_imports() -> None:
    rooms = {room_of(path) for path in sources(LIBRARY)} - {"__init__", "__main__"}
    complain(sorted(rooms - set(ALLOWED)), "say in ALLOWED what these rooms may import")


def test_imports_run_one_way() -> None:
    violations = [
        f"{found}: {room_of(path)} may import only {', '.join(sorted(ALLOWED[room_of(path)]))}"
        for path in sources(LIBRARY)
        if room_of(path) in ALLOWED
        for found in imports_of(path)
        if (room := room_named(found.module)) and room not in ALLOWED[room_of(path)] | {room_of(path)}
    ]
    complain(violations, "imports that run against the direction")


def test_pure_rooms_touch_no_network_no_process_and_no_database() -> None:
    pure = FOUNDATION | SHARED_PURE | PURE
    violations = [
        str(found)
        for path in sources(LIBRARY)
        if room_of(path) in pure
        for found in imports_of(path)
        if found.module.split(".")[0] in IO_LIBRARIES and not found.checked_only
    ]
    complain(violations, "I/O in a pure room")


def test_stages_and_state_machines_do_io_through_ports_only() -> None:
    violations = [
        str(found)
        for path in sources(LIBRARY)
        if room_of(path) in STATE_MACHINES | {"stages"}
        for found in imports_of(path)
        if found.module.split(".")[0] in {"pymongo", "bson", "confluent_kafka", "httpx", "requests"} and not found.checked_only
    ]
    complain(violations, "a stage or a state machine that imports a driver")


def test_the_library_never_imports_airflow() -> None:
    violations = [
        str(found) for path in sources(LIBRARY) for found in imports_of(path) if found.module.split(".")[0] == "airflow"
    ]
    complain(violations, "nothing in include/ may import airflow")


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports for type checking count too: two files that need each other's types belong together."""
    graph: dict[str, set[str]] = {}
    known = {module_name(path) for path in sources(LIBRARY)}
    for path in sources(LIBRARY):
        named = {f.module for f in imports_of(path) if f.module in known}
        graph[module_name(path)] = named - {module_name(path)}
    complain([" → ".join(circle) for circle in circles(graph)], "circular imports")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The circles that a depth-first walk meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append([*trail[trail.index(module) :], module])
        elif module not in done:
            for named in sorted(graph.get(module, ())):
                walk(named, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]


def test_files_stay_small() -> None:
    watched = [LIBRARY, PROJECT / "plugins", PROJECT / "tests"]
    lengths = {path: len(path.read_text().splitlines()) for folder in watched for path in sources(folder)}
    too_long = [f"{path.relative_to(PROJECT)}: {length}" for path, length in lengths.items() if length >= MAXIMUM_LINES]
    dags = {path: len(path.read_text().splitlines()) for path in sources(PROJECT / "dags")}
    too_long += [f"{path.relative_to(PROJECT)}: {length}" for path, length in dags.items() if length > MAXIMUM_DAG_LINES]
    complain(too_long, f"{MAXIMUM_LINES} lines or more (a DAG file: over {MAXIMUM_DAG_LINES})")


def test_no_file_has_a_name_that_says_nothing() -> None:
    watched = [LIBRARY, PROJECT / "plugins", PROJECT / "dags"]
    violations = [
        str(path.relative_to(PROJECT))
        for folder in watched
        for path in sources(folder)
        if FORBIDDEN_NAMES & set(re.split(r"[_/.]", str(path.relative_to(PROJECT))))
    ]
    complain(violations, "names that say nothing")


def test_dags_and_plugins_reach_the_library_through_stages_and_wiring() -> None:
    allowed = {"stages", "wiring", "settings", "model", "errors", "ports", "routing"}
    violations = [
        str(found)
        for folder in ("dags", "plugins")
        for path in sources(PROJECT / folder)
        for found in imports_of(path)
        if (room := room_named(found.module)) and room not in allowed
    ]
    complain(violations, "DAGs and plugins call stages, nothing deeper")
