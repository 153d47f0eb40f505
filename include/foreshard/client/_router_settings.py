"""The router of an app, from the settings: in process from the sidecar's files, and the sidecar for what they can't say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foreshard.client._fallback_routes import FallbackRoutes
from foreshard.client._routes import Router
from foreshard.client._sidecar_routes import SidecarRoutes

if TYPE_CHECKING:
    from foreshard.settings import Settings


def build_router(
    settings: Settings | None = None,
    sidecar_url: str | None = None,
    routing_folder: Path | None = None,
    keep_routes: float = 0.5,
) -> Router:
    """A router that an app may use with plain pymongo: ``router.route(key, Operation.READ, Wish("San Jose")).uri``.

    ``routing_folder``: where the sidecar keeps its table (``routing`` in the settings' data folder, unless another is given);
    ``keep_routes``: seconds for which an answer of the sidecar may be used again.
    """
    from foreshard.client._local_routes import LocalRoutes
    from foreshard.client._local_rules import LocalRules
    from foreshard.settings import Settings

    settings = settings or Settings.load()
    local = LocalRoutes(routing_folder or settings.data_dir / "routing", LocalRules.from_settings(settings))
    url = sidecar_url or f"http://{settings.sidecar.host}:{settings.sidecar.port}"
    return Router(FallbackRoutes(SidecarRoutes(url), local), keep_routes, local=local)
