"""All settings, and where they are read from."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from foreshard.errors import ConfigurationError, MissingSecret
from foreshard.model import ConflictPolicy, ShardedCollection
from foreshard.model.key_space import KeyType
from foreshard.settings._forecast import ForecastSettings
from foreshard.settings._migrate import MigrateSettings
from foreshard.settings._observe import ObserveSettings
from foreshard.settings._plan import PlanSettings
from foreshard.settings._section import SettingsSection
from foreshard.settings._shadow import ShadowSettings
from foreshard.settings._sidecar import SidecarSettings

SHORTEST_USER_KEY = 32
"""Bytes of the shortest key that pseudonymises users."""


class CollectionSetting(SettingsSection):
    """A sharded collection."""

    database: str = Field(description="Name of the database.")
    collection: str = Field(description="Name of the collection.")
    key_field: str = Field(description="Field that holds the partitionable key.")
    key_type: KeyType = Field(
        default=KeyType.STRING,
        description="Type of the keys: `string`, `int`, `objectid` or `uuid`. All sharded collections have the same, because"
        " they share one routing table.",
    )
    policy: ConflictPolicy = Field(
        default=ConflictPolicy.LAST_WRITE_WINS,
        description="How concurrent writes are reconciled: `last_write_wins`, or `vector_clock`, which keeps both versions"
        " until the merge function or a person resolves the conflict.",
    )
    merge: str | None = Field(
        default=None,
        description="Function that resolves conflicts, as `module:function`. It is called with the concurrent documents (None"
        " for a delete) and returns the one to keep. None: conflicts wait for a person.",
    )


class Settings(BaseSettings):
    """Every setting of Foreshard, immutable. Build it with :meth:`load`."""

    model_config = SettingsConfigDict(
        env_prefix="FORESHARD_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    control_uri: SecretStr = Field(
        default=SecretStr("mongodb://127.0.0.1:27017/?directConnection=true"),
        description="MongoDB URI of the control database's replica set. Partitions have their URIs in the registry.",
    )
    control_database: str = Field(
        default="foreshard",
        description="Name of the control database. Each partition keeps Foreshard's own documents in a database of this name.",
    )
    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="Kafka bootstrap servers, separated by commas.")
    access_topic: str = Field(default="foreshard.access", description="Kafka topic of the access log.")
    replication_topic: str = Field(
        default="foreshard.replication", description="Kafka topic that carries changes from primary copies to shadows."
    )
    data_dir: Path = Field(
        default=Path("var/foreshard"),
        description="Folder for raw hours, series, Data Docs, replays, and the sidecar's routing table file.",
    )
    user_key: SecretStr | None = Field(
        default=None,
        description="Secret key of the HMAC that pseudonymises users and sessions, of at least 32 bytes. Set it through the"
        " environment, not in the file.",
    )
    mongo_username: str | None = Field(
        default=None, description="MongoDB user for the control database and every partition. None: no authentication."
    )
    mongo_password: SecretStr | None = Field(
        default=None, description="Password of that user. Set it through the environment, not in the file."
    )
    collections: tuple[CollectionSetting, ...] = Field(
        default=(), description="The sharded collections, as a JSON list of objects with the fields below."
    )
    observe: ObserveSettings = ObserveSettings()
    forecast: ForecastSettings = ForecastSettings()
    plan: PlanSettings = PlanSettings()
    migrate: MigrateSettings = MigrateSettings()
    shadow: ShadowSettings = ShadowSettings()
    sidecar: SidecarSettings = SidecarSettings()

    @field_validator("collections")
    @classmethod
    def _one_key_type(cls, collections: tuple[CollectionSetting, ...]) -> tuple[CollectionSetting, ...]:
        types = sorted({collection.key_type for collection in collections})
        if len(types) > 1:
            raise ValueError(f"key_type is {' and '.join(types)}, but all collections share one routing table; use one type")
        return collections

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the TOML file, then the defaults."""
        path = os.environ.get("FORESHARD_CONFIG")
        file = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, *file)

    @classmethod
    def load(cls, **overrides: object) -> Settings:
        """Read the settings. Raise :class:`ConfigurationError` for the first invalid one."""
        path = os.environ.get("FORESHARD_CONFIG")
        if path and not Path(path).is_file():
            raise ConfigurationError("FORESHARD_CONFIG", f"no file {path}", "name an existing TOML file or unset it")
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = "FORESHARD_" + "__".join(str(part).upper() for part in first["loc"])
            problem = first["msg"].removeprefix("Value error, ")
            raise ConfigurationError(name, problem, "correct it in the environment or the configuration file") from None

    @property
    def sharded_collections(self) -> tuple[ShardedCollection, ...]:
        """The sharded collections, as the model's type."""
        return tuple(ShardedCollection(c.database, c.collection, c.key_field, c.policy, c.key_type) for c in self.collections)

    @property
    def key_type(self) -> KeyType:
        """The type of all partitionable keys."""
        return next((c.key_type for c in self.collections), KeyType.STRING)

    def require_user_key(self) -> bytes:
        """Return the HMAC key that pseudonymises users. Raise :class:`ConfigurationError` if it is not set, or too short."""
        if self.user_key is None or not self.user_key.get_secret_value():
            raise MissingSecret("FORESHARD_USER_KEY", "the key that pseudonymises users")
        key = self.user_key.get_secret_value().encode()
        if len(key.strip()) < SHORTEST_USER_KEY:
            problem = f"its {len(key.strip())} bytes can be guessed; a key has at least {SHORTEST_USER_KEY}"
            raise ConfigurationError("FORESHARD_USER_KEY", problem, "make one with `openssl rand -hex 32`")
        return key
