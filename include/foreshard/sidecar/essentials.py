"""The settings that a sidecar needs before it can answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foreshard.settings import Settings


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
