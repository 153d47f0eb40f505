"""The configuration of a sidecar with default settings, and routes from its files, for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foreshard.client.routing.local_routes import LocalRoutes
from foreshard.routing.config import SidecarConfig
from foreshard.settings import Settings
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile

CONFIG = SidecarConfig.from_settings(Settings())


def local_routes(folder: Path, **options: Any) -> LocalRoutes:
    """Routes from the sidecar's files in ``folder``."""
    return LocalRoutes(RoutingFile(folder), LiveRoutingFile(folder), CONFIG, **options)
