"""The access log in the profiler of a running MongoDB: ``system.profile`` of a database, a capped collection.

Operations are read as extended JSON, like an exported profile, and never written to a file. Foreshard's own are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from bson import json_util
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from foreshard.errors import ConfigurationError, CorruptLog, HourRefused
from foreshard.model import ONE_HOUR
from foreshard.observe.batches import RawBatch
from foreshard.observe.mapping import mapped
from foreshard.observe.profiled import operation_fields
from foreshard.ports.access_logs import FieldSample
from foreshard.settings import SourceMapping
from foreshard.stores.files.json_lines import fields_of
from foreshard.stores.files.log_fields import sample_of_lines
from foreshard.stores.files.log_tables import Note
from foreshard.stores.mongo_connections import LOOP, Document, MongoConnections

SCHEMES = ("mongodb://", "mongodb+srv://")
PROFILE = "system.profile"
BATCH_RECORDS = 20_000
SAMPLED = 1_000
FULL = 0.9
"""A capped collection of this share of its size has begun to overwrite its oldest operations."""

_OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, tz_aware=True)


class ProfilerAccessLog:
    """The profilers of one or several databases as a source of hours."""

    def __init__(self, addresses: Sequence[str], mapping: SourceMapping | None, connections: MongoConnections) -> None:
        self._addresses, self._mapping = tuple(addresses), mapping
        self._profiles = [profiled_database(address, connections) for address in addresses]

    @property
    def name(self) -> str:
        return ", ".join(self._addresses)

    def holds_whole(self, hour: datetime) -> bool:
        """Return whether no operation of the hour has been overwritten in any of the profiles."""
        return all(_overwritten_until(profile, hour) is None for profile in self._profiles)

    def read_hour(self, hour: datetime, note: Note = lambda _line: None) -> Iterator[RawBatch]:
        """Yield the operations of the hour.

        Raise :class:`HourRefused` if some of them have been overwritten: no later try brings them back.
        """
        for profile in self._profiles:
            begins = _overwritten_until(profile, hour)
            if begins is not None:
                problem = f"is not whole in {profile.name}.{PROFILE}, which begins at {begins:%Y-%m-%d %H:%M:%SZ}"
                raise HourRefused(hour, problem, "make that collection larger (docs/sources.md, MongoDB's profiler)")
            yield from profiled_tables(profile, self._mapping, note, hour, hour + ONE_HOUR)


def profiled_database(address: str, connections: MongoConnections) -> Database[Document]:
    """Return the database that an address names. Raise :class:`ConfigurationError` for one without, or with credentials."""
    try:
        parsed = parse_uri(address)
    except (PyMongoError, ValueError) as error:
        raise ConfigurationError("access_log_paths", f"no address of MongoDB ({error})", "write mongodb://HOST/DB") from None
    shown = ", ".join(f"{host}:{port}" for host, port in parsed["nodelist"])
    if parsed["username"] or parsed["password"]:
        remedy = "set FORESHARD_MONGO_USERNAME and FORESHARD_MONGO_PASSWORD instead"
        raise ConfigurationError("access_log_paths", f"the address of {shown} has credentials in it", remedy)
    if not parsed["database"]:
        raise ConfigurationError("access_log_paths", f"mongodb://{shown} names no database", "write mongodb://HOST/DB")
    return connections.client(address)[parsed["database"]]


def profiled_tables(
    profile: Database[Document],
    mapping: SourceMapping | None,
    note: Note,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[RawBatch]:
    """Yield the operations of [since, until), oldest first, with the standard columns by the mapping.

    A note says what the profiler does not log. Raise :class:`CorruptLog` without a mapping, or if it can't be read.
    """
    place = f"{profile.name}.{PROFILE}"
    if mapping is None:
        raise CorruptLog(place, "a profile needs a mapping; foreshard observe check proposes one")
    left_out = 0
    for number, documents in enumerate(_batches(profile, since, until, place)):
        if not number:
            _note_level(profile, note)
        sources = [f"{place}:{number * BATCH_RECORDS + n}" for n in range(len(documents))]
        known = mapped(fields_of(_lines(documents), sources, mapping.fields, operation_fields), mapping)
        left_out += int((~known.kept).sum())
        if len(known.records):
            yield known.records
    if left_out:
        note(f"{place}: {left_out:,} operations are left out: inserts, commands, and what the mapping does not name")


def profiled_sample(profile: Database[Document]) -> FieldSample:
    """Return the fields of the newest operations, as a mapping names them. Raise :class:`CorruptLog` without any."""
    place = f"{profile.name}.{PROFILE}"
    try:
        newest = list(profile[PROFILE].find(_counted(None, None)).sort("$natural", -1).limit(SAMPLED))
    except PyMongoError as error:
        raise _unreadable(place, error) from error
    if not newest:
        remedy = f"switch the profiler on: db.getSiblingDB('{profile.name}').setProfilingLevel(2)"
        raise CorruptLog(place, f"it has no operation; {remedy}")
    return sample_of_lines(place, _lines(newest))


def _batches(
    profile: Database[Document], since: datetime | None, until: datetime | None, place: str
) -> Iterator[list[Document]]:
    try:
        found = iter(profile[PROFILE].find(_counted(since, until)).sort("$natural", 1))
        while documents := list(islice(found, BATCH_RECORDS)):
            yield documents
    except PyMongoError as error:
        raise _unreadable(place, error) from error


def _counted(since: datetime | None, until: datetime | None) -> Document:
    """Select what apps have done: neither Foreshard's own operations nor those on the profile itself."""
    asked: Document = {"ns": {"$not": {"$regex": r"\.system\."}}, "appName": {"$ne": LOOP}}
    span = {name: at for name, at in (("$gte", since), ("$lt", until)) if at is not None}
    return {**asked, "ts": span} if span else asked


def _lines(documents: Sequence[Document]) -> list[bytes]:
    return [json_util.dumps(document, json_options=_OPTIONS).encode() for document in documents]


def _overwritten_until(profile: Database[Document], hour: datetime) -> datetime | None:
    """Return when the profile begins if operations of the hour may have been overwritten; None if it has them all."""
    try:
        oldest = profile[PROFILE].find_one(sort=[("$natural", 1)])
        if oldest is None or oldest["ts"] <= hour:
            return None
        about: dict[str, Any] = profile.command("collStats", PROFILE)
    except PyMongoError as error:
        raise _unreadable(f"{profile.name}.{PROFILE}", error) from error
    begins: datetime = oldest["ts"]
    return begins if about["size"] >= FULL * about["maxSize"] else None


def _note_level(profile: Database[Document], note: Note) -> None:
    """Say which operations the profiler leaves out, so that a person knows what is not counted."""
    found = profile.command("profile", -1)
    if found["was"] == 0:
        note(f"{profile.name}: the profiler is off; what apps do now is not counted")
    elif found["was"] == 1 and found["slowms"] >= 0:
        note(f"{profile.name}: only operations slower than {found['slowms']} ms are profiled and counted")
    if found.get("sampleRate", 1.0) < 1:
        note(f"{profile.name}: a share of {found['sampleRate']:g} of the operations is profiled and counted")


def _unreadable(place: str, error: PyMongoError) -> CorruptLog:
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return CorruptLog(place, f"it can't be read ({said}); it needs the role clusterMonitor or read on system.profile")
