"""Settings of every process: one immutable tree, read from the environment and a TOML file.

Environment variables start with ``FORESHARD_``; ``__`` separates a section from its setting. ``FORESHARD_CONFIG`` names the
TOML file, which the environment overrides. Set the secrets (``FORESHARD_USER_KEY``, ``FORESHARD_MONGO_PASSWORD``) through the
environment only. They are never printed. ``docs/settings.md`` lists every setting; `make docs` writes it.
"""

from foreshard.settings._access import SettingsAccess
from foreshard.settings._forecast import ForecastSettings
from foreshard.settings._mapping import COMBINED, MONGODB_OPERATION, SourceMapping
from foreshard.settings._migrate import MigrateSettings
from foreshard.settings._observe import ObserveEngine, ObserveSettings, RequestTypeSetting
from foreshard.settings._plan import PlanSettings
from foreshard.settings._shadow import ShadowSettings
from foreshard.settings._sidecar import SidecarSettings
from foreshard.settings._tree import CollectionSetting, Settings

__all__ = [
    "COMBINED",
    "MONGODB_OPERATION",
    "CollectionSetting",
    "ForecastSettings",
    "MigrateSettings",
    "ObserveEngine",
    "ObserveSettings",
    "PlanSettings",
    "RequestTypeSetting",
    "Settings",
    "SettingsAccess",
    "ShadowSettings",
    "SidecarSettings",
    "SourceMapping",
]
