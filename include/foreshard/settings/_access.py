"""The sections as attributes, so that a stage can name the section it reads instead of taking all settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from foreshard.model import ShardedCollection
    from foreshard.model.key_space import KeyType
    from foreshard.settings._forecast import ForecastSettings
    from foreshard.settings._migrate import MigrateSettings
    from foreshard.settings._observe import ObserveSettings
    from foreshard.settings._plan import PlanSettings
    from foreshard.settings._shadow import ShadowSettings
    from foreshard.settings._sidecar import SidecarSettings
    from foreshard.settings._tree import CollectionSetting, Settings


class SettingsAccess:
    """Gives read access to ``settings``, section by section."""

    settings: Settings

    @property
    def observe_settings(self) -> ObserveSettings:
        return self.settings.observe

    @property
    def forecast_settings(self) -> ForecastSettings:
        return self.settings.forecast

    @property
    def plan_settings(self) -> PlanSettings:
        return self.settings.plan

    @property
    def migrate_settings(self) -> MigrateSettings:
        return self.settings.migrate

    @property
    def shadow_settings(self) -> ShadowSettings:
        return self.settings.shadow

    @property
    def sidecar_settings(self) -> SidecarSettings:
        return self.settings.sidecar

    @property
    def collection_settings(self) -> tuple[CollectionSetting, ...]:
        return self.settings.collections

    @property
    def sharded_collections(self) -> tuple[ShardedCollection, ...]:
        return self.settings.sharded_collections

    @property
    def key_type(self) -> KeyType:
        return self.settings.key_type

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def require_user_key(self) -> bytes:
        return self.settings.require_user_key()
