"""The settings that the sidecar, and a client that routes in process, work from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foreshard.model import RequestKind
from foreshard.routing.address import http_address
from foreshard.routing.load_book import LoadRules

if TYPE_CHECKING:
    from pathlib import Path

    from foreshard.settings import Settings


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """Where a sidecar listens, where its table is stored, and the figures behind its decisions.

    ``read_cost`` and ``write_cost`` are the cost units that a request is assumed to need. ``default_staleness`` is the limit,
    in seconds, for reads that set none. ``home_location`` replaces an unknown location (None: the primary's location).
    ``tls_certificate``, ``tls_key``: its certificate, if it encrypts. ``tls_authority``: by whom clients check it.
    ``names``: what apps may call it by. ``token``: what they must know (None: nothing). ``stale_after``: age of the table, in
    seconds, from which on the sidecar is not ready.
    """

    host: str
    port: int
    socket: Path | None
    workers: int
    routing_folder: Path
    loads: LoadRules
    read_cost: float
    write_cost: float
    default_staleness: float
    home_location: str | None
    stale_after: float
    names: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None

    @property
    def url(self) -> str:
        """Where clients on the same machine ask it."""
        return http_address(self.host, self.port, secure=self.tls_certificate is not None)

    @classmethod
    def from_settings(cls, settings: Settings) -> SidecarConfig:
        """Return the configuration that ``settings`` describe."""
        sidecar, kinds = settings.sidecar, settings.observe.request_types
        return cls(
            host=sidecar.host,
            port=sidecar.port,
            socket=sidecar.socket,
            workers=sidecar.workers,
            routing_folder=settings.data_dir / "routing",
            loads=LoadRules(sidecar.room_mark, sidecar.load_expiry.total_seconds(), sidecar.load_time_scale),
            read_cost=kinds["read"].weight if "read" in kinds else 1.0,
            write_cost=kinds["write"].weight if "write" in kinds else 2.0,
            default_staleness=settings.shadow.maximum_staleness.total_seconds(),
            home_location=sidecar.home_location,
            stale_after=sidecar.stale_after.total_seconds(),
            names=tuple(name.lower() for name in sidecar.names),
            token=sidecar.token.get_secret_value() if sidecar.token else None,
            tls_certificate=sidecar.tls_certificate,
            tls_key=sidecar.tls_key,
            tls_authority=sidecar.tls_authority,
        )

    def cost(self, kind: RequestKind) -> float:
        """The cost units of one request of this kind."""
        return self.write_cost if kind is RequestKind.WRITE else self.read_cost
