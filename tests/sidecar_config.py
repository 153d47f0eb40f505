"""The configuration of a sidecar with default settings, for tests and benchmarks."""

from __future__ import annotations

from foreshard.routing.config import SidecarConfig
from foreshard.settings import Settings

CONFIG = SidecarConfig.from_settings(Settings())
