"""What a sidecar needs of the settings until it answers: few, plain values, so that a restart need not read and check the rest.

They are kept in ``DATA_DIR/sidecar-settings.json``, with a mark of everything that they were made from: the environment, the
configuration file, this release. Where the mark is still the same, they are what the settings say, and a restart may answer
before it has read the settings (which takes a quarter of a second, most of it imports). They are read then all the same, and
compared. Secrets are neither kept nor part of the mark.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128_hexdigest

from foreshard import __version__

if TYPE_CHECKING:
    from foreshard.settings import Settings

FILE = "sidecar-settings.json"
DATA_DIR = "var/foreshard"
"""Where the data lie unless a setting says otherwise."""
PREFIX = "FORESHARD_"
SECRETS = {"FORESHARD_USER_KEY", "FORESHARD_MONGO_PASSWORD", "FORESHARD_CONTROL_URI"}
"""Any text will do for these."""
MADE_BY = tuple(sorted((Path(__file__).parents[1] / "settings").glob("*.py")))


@dataclass(frozen=True)
class Essentials:
    """Where to listen and where the table lies, and what decisions go by; times in seconds."""

    host: str
    port: int
    socket: str | None
    workers: int
    data_dir: str
    home_location: str | None
    room_mark: float
    load_expiry: float
    load_time_scale: float
    read_cost: float
    write_cost: float
    default_staleness: float

    @classmethod
    def of(cls, settings: Settings) -> Essentials:
        """The essentials of some settings."""
        sidecar, kinds = settings.sidecar, settings.observe.request_types
        return cls(
            host=sidecar.host,
            port=sidecar.port,
            socket=str(sidecar.socket) if sidecar.socket else None,
            workers=sidecar.workers,
            data_dir=str(settings.data_dir),
            home_location=sidecar.home_location,
            room_mark=sidecar.room_mark,
            load_expiry=sidecar.load_expiry.total_seconds(),
            load_time_scale=sidecar.load_time_scale,
            read_cost=kinds["read"].weight if "read" in kinds else 1.0,
            write_cost=kinds["write"].weight if "write" in kinds else 2.0,
            default_staleness=settings.shadow.maximum_staleness.total_seconds(),
        )

    def with_options(self, options: Mapping[str, Any]) -> Essentials:
        """The essentials with what the command line says."""
        return replace(self, **options)

    @property
    def routing_folder(self) -> Path:
        """Where the table lies."""
        return Path(self.data_dir) / "routing"


def remember(essentials: Essentials) -> None:
    """Keep them for the next start, where the folder of the data can be written to."""
    path = Path(essentials.data_dir) / FILE
    beside = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps({"mark": _mark(), "essentials": asdict(essentials)}))
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def remembered() -> Essentials | None:
    """What was kept, where it was made from the very same environment and files; None: the settings have to be read."""
    try:
        kept = json.loads((Path(_data_dir()) / FILE).read_bytes())
        return Essentials(**kept["essentials"]) if kept["mark"] == _mark() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _data_dir() -> str:
    path = os.environ.get("FORESHARD_CONFIG")
    said = os.environ.get("FORESHARD_DATA_DIR")
    if said is None and path:
        import tomllib

        said = tomllib.loads(Path(path).read_text()).get("data_dir")
    return str(said or DATA_DIR)


def _mark() -> str:
    """A digest of all that the settings are made from; raises OSError where the configuration file can't be found."""
    given = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    said = sorted((name, "" if name.upper() in SECRETS else value) for name, value in given.items())
    config = given.get("FORESHARD_CONFIG")
    files = [path.stat() for path in (*MADE_BY, config and Path(config)) if path]
    stamps = [(one.st_ino, one.st_size, one.st_mtime_ns) for one in files]
    return xxh3_128_hexdigest(json.dumps([__version__, said, stamps]).encode())
