"""pymongo's own cases of the CRUD specification, from the source package of the pymongo that is installed.

The cases are part of pymongo's source package only, and not of its wheel. It is downloaded once into ``var/spec`` and compared
with the lock file.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from bson import json_util

PROJECT = Path(__file__).parents[4]
FOLDER = PROJECT / "var" / "spec"
OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED)


@dataclass(frozen=True)
class Case:
    """One case: the documents that stand there, the operations, and the options of its collections by their ids."""

    name: str
    documents: tuple[Mapping[str, Any], ...]
    operations: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Mapping[str, Any]]
    requirements: tuple[Mapping[str, Any], ...]

    def runs_on(self, version: str) -> bool:
        """Whether the case is for a replica set of this server version."""
        return not self.requirements or any(_meets(one, version) for one in self.requirements)


def cases() -> Iterator[Case]:
    """All cases of ``test/crud/unified``."""
    with tarfile.open(_package()) as archive:
        files = sorted(
            (m for m in archive.getmembers() if re.search(r"/test/crud/unified/.*\.json$", m.name)), key=lambda m: m.name
        )
        for member in files:
            content = archive.extractfile(member)
            assert content is not None
            yield from _of_file(
                member.name.rsplit("/", 1)[-1].removesuffix(".json"), json_util.loads(content.read(), json_options=OPTIONS)
            )


def _of_file(file: str, parsed: Any) -> Iterator[Case]:
    made = [entity["collection"] for entity in parsed.get("createEntities", []) if "collection" in entity]
    options = {one["id"]: one.get("collectionOptions", {}) for one in made}
    documents = next((tuple(data["documents"]) for data in parsed.get("initialData", [])), ())
    for test in parsed["tests"]:
        required = (*test.get("runOnRequirements", parsed.get("runOnRequirements", [])),)
        yield Case(f"{file}: {test['description']}", documents, (*test["operations"],), options, required)


def _meets(requirement: Mapping[str, Any], version: str) -> bool:
    least, most = requirement.get("minServerVersion", "0"), requirement.get("maxServerVersion", "999")
    return _numbers(least) <= _numbers(version) <= _numbers(most) and "replicaset" in requirement.get(
        "topologies", ["replicaset"]
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _package() -> Path:
    """The source package. It is downloaded if it is not there."""
    found = FOLDER / f"pymongo-{pymongo.version}.tar.gz"
    if not found.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        wanted = ["--no-deps", "--no-binary", "pymongo", f"pymongo=={pymongo.version}", "--dest", str(FOLDER)]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", *wanted], check=True)
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    locked = (PROJECT / "requirements.lock").read_text().split(f"\npymongo=={pymongo.version} ")[1].split("# via")[0]
    assert f"sha256:{digest}" in locked, f"{found} is not the locked package; remove it and run the test again"
    return found
