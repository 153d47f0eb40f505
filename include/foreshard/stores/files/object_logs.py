"""Log files in an object store, such as ``s3://bucket/logs/*.jsonl.gz``, through fsspec.

Objects are copied to a private temporary folder, read like local files, and deleted at once, because they may name users.
Objects that were last changed more than a day before an hour are not copied for it, as local files are not opened.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshard.errors import ConfigurationError, CorruptLog
from foreshard.observe.batches import RawBatch
from foreshard.stores.files.access_log import ended_before, read_log
from foreshard.stores.files.log_fields import sampled_fields
from foreshard.stores.files.log_formats import Piece
from foreshard.stores.files.log_parts import LONGEST_FILE, SourcePart, SourceVerdict, records_of
from foreshard.stores.files.log_paths import ENDINGS, log_files, plain_name
from foreshard.stores.files.log_splitting import parts_of
from foreshard.stores.files.log_tables import Note, SourceForm

if TYPE_CHECKING:
    from foreshard.ports.access_logs import FieldSample


def is_address(place: object) -> bool:
    """Return whether a place is an address, such as ``s3://bucket/logs``, and not a path."""
    return isinstance(place, str) and "://" in place


class ObjectAccessLog:
    """Objects and local paths as a source of hours."""

    def __init__(self, places: Sequence[str], form: SourceForm) -> None:
        self._places, self._form = tuple(places), form

    @property
    def name(self) -> str:
        return ", ".join(place if is_address(place) else str(Path(place).resolve()) for place in self._places)

    def holds_whole(self, _hour: datetime) -> bool:
        """Return true: objects don't forget their beginning."""
        return True

    def read_hour(self, hour: datetime, note: Note = lambda _line: None) -> Iterator[RawBatch]:
        """Yield the hour's records, in the way of local files. One object is copied at a time."""
        yield from records_of(*self.parts(hour, note), hour)

    def parts(
        self, hour: datetime, note: Note = lambda _line: None, most: int | None = None
    ) -> tuple[list[SourcePart], SourceVerdict]:
        """Return the parts that may have records of an hour, and what judges them. Each object is one part."""
        local = [Path(place) for place in self._places if not is_address(place)]
        files = log_files(local, self._form.any_name)
        files = files if most is None else [path.absolute() for path in files]
        opened = [path for path in files if not ended_before(path, hour)]
        stored = [(place, one) for place in self._places if is_address(place) for one in listed(place, self._form.any_name)]
        changed = [ObjectPart(place, one, self._form) for place, one in stored if one.changed >= hour - LONGEST_FILE]
        number = len(files) + len(stored)
        verdict = SourceVerdict(", ".join(self._places), hour, note, number, number - len(opened) - len(changed))
        return [*parts_of(opened, self._form, hour, most), *changed], verdict


@dataclass(frozen=True)
class ObjectPart:
    """An object of a log. Whoever reads it copies it first."""

    address: str
    stored: StoredObject
    form: SourceForm
    piece: Piece | None = None
    earlier: tuple[Piece, ...] = ()

    @property
    def place(self) -> str:
        scheme = self.address.partition("://")[0]
        return f"{scheme}://{self.stored.path}"

    @property
    def size(self) -> int:
        return self.stored.size

    def is_there(self) -> bool:
        return True

    @contextmanager
    def file(self) -> Iterator[Path]:
        with _copied([self.stored], self.address) as files:
            yield files[0]


def object_tables(address: str, form: SourceForm, note: Note) -> Iterator[RawBatch]:
    """Yield the records of all objects of an address. Raise :class:`CorruptLog`."""
    for one in listed(address, form.any_name):
        with _copied([one], address) as files:
            yield from read_log(files[0], form, note)


def object_sample(address: str) -> FieldSample:
    """Return a sample of the fields of an address' last object. Raise :class:`CorruptLog` if its form is not known."""
    with _copied(listed(address, any_name=True)[-1:], address) as files:
        return sampled_fields(files[0])


@dataclass(frozen=True)
class StoredObject:
    """An object: its path in its file system, its path below its address, when it was last changed, and its bytes."""

    path: str
    name: str
    changed: datetime
    size: int


def listed(address: str, any_name: bool = False) -> list[StoredObject]:
    """Return the objects of an address, by name: an object, those that a pattern names, or the log files below a folder.

    Raise :class:`CorruptLog` without any, or if the store does not answer, and :class:`ConfigurationError` without its package.
    """
    system, root = _system(address)
    endings = ("",) if any_name else ENDINGS
    try:
        system.invalidate_cache()
        if has_magic(root):
            found = {path: about for path, about in system.glob(root, detail=True).items() if about["type"] == "file"}
        elif system.isfile(root):
            found = {root: system.info(root)}
        else:
            found = system.find(root, detail=True)
            found = {path: about for path, about in found.items() if path.endswith(endings)}
    except Exception as error:
        raise _unreadable(address, error) from error
    if not found:
        raise CorruptLog(address, f"there is no log file of such a name ({', '.join(ENDINGS)})")
    _refuse_doubles(address, found)
    common = os.path.commonpath(list(found)) if len(found) > 1 else str(Path(next(iter(found))).parent)
    return [
        StoredObject(path, os.path.relpath(path, common), _changed(about), int(about.get("size") or 0))
        for path, about in sorted(found.items())
    ]


def _refuse_doubles(address: str, paths: Iterable[str]) -> None:
    """Raise :class:`CorruptLog` for one log in two objects, packed and unpacked: its records would count twice."""
    seen: dict[Path, str] = {}
    for path in paths:
        log = Path(path).with_name(plain_name(Path(path)))
        if log in seen:
            problem = f"{path} is the same log as {seen[log]}, so its records would count twice; remove one of the two"
            raise CorruptLog(address, problem)
        seen[log] = path


@contextmanager
def _copied(objects: Sequence[StoredObject], address: str) -> Iterator[list[Path]]:
    """Yield local copies of objects of an address, below a folder that only this user can read. They are deleted at the end."""
    system, _ = _system(address)
    with tempfile.TemporaryDirectory(prefix="foreshard-log-") as folder:
        files = []
        for number, one in enumerate(objects):
            file = Path(folder, str(number), one.name) if _is_outside(one.name) else Path(folder, one.name)
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                system.get_file(one.path, str(file))
            except Exception as error:
                raise _unreadable(one.path, error) from error
            os.utime(file, (one.changed.timestamp(),) * 2)
            files.append(file)
        yield files


def _is_outside(name: str) -> bool:
    return ".." in Path(name).parts or Path(name).is_absolute()


def _system(address: str) -> tuple[Any, str]:
    import fsspec

    scheme, _, rest = address.partition("://")
    if "@" in rest.partition("/")[0]:
        remedy = "give them in the environment (docs/sources.md, Object stores)"
        raise ConfigurationError("access_log_paths", f"an address of {scheme}:// has credentials in it", remedy)
    try:
        system, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}.get(scheme)
        remedy = f"pip install {package}" if package else str(error)
        raise ConfigurationError("access_log_paths", f"{scheme}:// needs a package that is not installed", remedy) from None
    except ValueError as error:
        raise ConfigurationError("access_log_paths", f"{address}: {error}", "give a path, or an address of fsspec") from None
    return system, root


def _changed(about: dict[str, Any]) -> datetime:
    """Return when an object was last changed; now if its store does not say it, so that it is always read."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        found = about.get(name)
        if isinstance(found, int | float):
            return datetime.fromtimestamp(found, UTC)
        if isinstance(found, str):
            found = datetime.fromisoformat(found)
        if isinstance(found, datetime):
            return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)


def _unreadable(place: str, error: Exception) -> CorruptLog:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return CorruptLog(place, f"it can't be read ({said})")
