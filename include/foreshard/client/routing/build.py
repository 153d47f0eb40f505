"""Builds the router of an app from the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foreshard.client.routing.router import Router
from foreshard.client.routing.routes import FallbackRoutes
from foreshard.client.routing.sidecar_routes import SidecarRoutes

if TYPE_CHECKING:
    from foreshard.settings import Settings


def build_router(
    settings: Settings | None = None,
    sidecar_url: str | None = None,
    routing_folder: Path | None = None,
    keep_routes: float = 0.5,
) -> Router:
    """Build a router for apps that use pymongo themselves: ``router.route(key, Operation.READ, ReadPreference("San
    Jose")).uri``.

    It routes in process from the sidecar's files, and asks the sidecar for everything else. ``routing_folder``: the folder of
    the sidecar's table (default: ``routing`` in the settings' data folder). ``keep_routes``: seconds for which an answer of the
    sidecar may be reused.
    """
    from foreshard.client.routing.local_routes import LocalRoutes
    from foreshard.routing.config import SidecarConfig
    from foreshard.settings import Settings
    from foreshard.stores.files.live_routing import LiveRoutingFile
    from foreshard.stores.files.routing_file import RoutingFile

    config = SidecarConfig.from_settings(settings or Settings.load())
    folder = routing_folder or config.routing_folder
    local = LocalRoutes(RoutingFile(folder), LiveRoutingFile(folder), config)
    sidecar = SidecarRoutes(sidecar_url or config.url, token=config.token, authority=config.tls_authority)
    return Router(FallbackRoutes(sidecar, local), keep_routes, local=local)
