"""Settings: one frozen tree, read from the environment (``FORESHARD_…``, nested with ``__``) over a TOML file.

The file is named by ``FORESHARD_CONFIG``. Secrets (``FORESHARD_USER_KEY``, ``FORESHARD_MONGO_PASSWORD``) come from the
environment only; they are never printed.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from foreshard.errors import ConfigurationError, MissingSecret
from foreshard.model import ConflictPolicy, RequestKind, ShardedCollection


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestTypeSetting(_Frozen):
    """What a request type does to its partition: whether it writes, and its weight in cost units."""

    kind: RequestKind
    weight: float = Field(gt=0)


class CollectionSetting(_Frozen):
    """A sharded collection: which field is its partitionable key, and how its conflicts are reconciled.

    ``merge`` names a function, ``module:function``, that resolves conflicts: it gets the concurrent documents (None for a
    delete) and returns the one to keep.
    """

    database: str
    collection: str
    key_field: str
    policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS
    merge: str | None = None


class ObserveSettings(_Frozen):
    """How accesses are counted."""

    request_types: dict[str, RequestTypeSetting] = {
        "read": RequestTypeSetting(kind=RequestKind.READ, weight=1.0),
        "write": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
        "insert": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
        "update": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
        "delete": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
        "scan": RequestTypeSetting(kind=RequestKind.READ, weight=4.0),
        "checkout": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
        "return": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
    }
    co_access_window: timedelta = timedelta(minutes=5)
    minimum_distinct_users: int = Field(default=5, ge=1)
    maximum_keys_per_session: int = Field(default=50, ge=2)
    maximum_pairs_per_hour: int = Field(default=20_000, ge=1)
    maximum_quarantined_share: float = Field(default=0.05, ge=0, le=1)
    minimum_usual_share: float = Field(default=0.02, ge=0, le=1)
    minimum_key_share: float = Field(default=0.1, ge=0, le=1)
    access_log_paths: tuple[Path, ...] = ()
    allowed_lateness: timedelta = timedelta(minutes=5)


class ForecastSettings(_Frozen):
    """How each key is forecast.

    ``prophets``: the Prophets that the engine ``blended`` weighs (:mod:`foreshard.forecast._prophet_candidates`).
    """

    engine: str = "blended"
    prophets: tuple[str, ...] = ("prophet_linear",)
    history_days: int = Field(default=28, ge=1)
    horizon_hours: int = Field(default=24, ge=1, le=168)
    quantile: float = Field(default=0.9, gt=0.5, lt=1)
    minimum_history_hours: int = Field(default=48, ge=1)
    chunk_keys: int = Field(default=40, ge=1)


class PlanSettings(_Frozen):
    """When a partition is relieved, and how much may be done about it in one hour.

    Gains and prices are in expected overload hours over the horizon; what each means, and how they weigh, is said at
    :class:`foreshard.plan.snapshot.PlanPolicy`. ``error_correlation``: None estimates it from the history.
    ``no_return``: for so long a key isn't moved back to where it came from; ``settle_rest``: for so long a key that was moved
    isn't moved for nearness alone. ``move_time`` and ``bytes_per_second``: how fast moves are taken to go until enough were
    measured (over the last ``rate_window``), ``parallel_moves`` of them at once.
    """

    high_water: float = Field(default=0.95, gt=0)
    low_water: float = Field(default=0.85, gt=0)
    maximum_moves: int = Field(default=20, ge=0)
    maximum_shadows: int = Field(default=5, ge=0)
    maximum_bytes: int = Field(default=10 * 2**30, ge=0)
    maximum_write_share: float = Field(default=0.5, ge=0, le=1)
    minimum_gain: float = Field(default=0.1, ge=0)
    relief_closeness: float = Field(default=0.6, ge=0)
    settle_gain: float = Field(default=0.2, ge=0)
    maximum_settled: int = Field(default=20, ge=0)
    shadow_gain: float = Field(default=0.2, ge=0)
    overload_mark: float = Field(default=1.0, gt=0)
    gigabyte_price: float = Field(default=0.01, ge=0)
    crossing_cost: float = Field(default=1.0, ge=0)
    distance_weight: float = Field(default=1.5, ge=0)
    payback_days: float = Field(default=30.0, gt=0)
    hot_share: float = Field(default=0.15, gt=0)
    far_km: float = Field(default=1000.0, gt=0)
    far_share: float = Field(default=0.3, gt=0, le=1)
    far_load: float = Field(default=0.05, ge=0)
    reserve: float = Field(default=0.25, ge=0, lt=1)
    maximum_clump: int = Field(default=16, ge=1)
    shadow_apply_cost: float = Field(default=1.0, ge=0)
    error_correlation: float | None = Field(default=None, ge=0, le=1)
    cooldown: timedelta = timedelta(hours=20)
    no_return: timedelta = timedelta(hours=24)
    settle_rest: timedelta = timedelta(days=14)
    parallel_moves: int = Field(default=2, ge=1)
    move_time: timedelta = timedelta(seconds=60)
    bytes_per_second: float = Field(default=5.0 * 2**20, gt=0)
    rate_window: timedelta = timedelta(days=7)

    @model_validator(mode="after")
    def _low_water_is_lower(self) -> PlanSettings:
        if self.low_water > self.high_water:
            raise ValueError(f"low_water {self.low_water} is above high_water {self.high_water}")
        return self


class MigrateSettings(_Frozen):
    """How keys are moved; times are upper limits, after which a move reverts or reports itself stuck."""

    batch_documents: int = Field(default=500, ge=1)
    catch_up_lag: timedelta = timedelta(milliseconds=500)
    catch_up_timeout: timedelta = timedelta(minutes=10)
    fence_timeout: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=30)
    grace_period: timedelta = timedelta(seconds=30)
    stuck_after: timedelta = timedelta(minutes=15)


class ShadowSettings(_Frozen):
    """How shadows are fed."""

    maximum_staleness: timedelta = timedelta(seconds=10)
    batch_documents: int = Field(default=500, ge=1)
    apply_timeout: timedelta = timedelta(minutes=5)
    lease: timedelta = timedelta(seconds=15)
    grace_period: timedelta = timedelta(seconds=30)
    tombstone_retention: timedelta = timedelta(days=14)


class SidecarSettings(_Frozen):
    """Where the sidecar listens, when it leaves a partition for another copy, and how partitions' loads are measured.

    ``operation_weights``: cost units per operation that a partition counts (serverStatus.opcounters);
    ``load_time_scale``: seconds of the loads' clock per second, for a log that is played faster than it happened;
    ``home_location``: where accesses of no known location are taken to come from;
    ``socket``: path of a Unix socket to answer at as well; ``workers``: processes that answer.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=7788, ge=0, le=65535)
    socket: Path | None = None
    workers: int = Field(default=1, ge=1, le=64)
    room_mark: float = Field(default=0.8, gt=0)
    load_interval: timedelta = timedelta(seconds=2)
    load_expiry: timedelta = timedelta(seconds=15)
    load_time_scale: float = Field(default=1.0, gt=0)
    load_smoothing: timedelta = timedelta(seconds=5)
    operation_weights: dict[str, float] = {
        "query": 1.0,
        "getmore": 1.0,
        "insert": 2.0,
        "update": 2.0,
        "delete": 2.0,
        "command": 0.0,
    }
    home_location: str | None = None
    metrics_port: int = Field(default=7789, ge=0, le=65535)


class Settings(BaseSettings):
    """The whole tree; build it with ``Settings.load``."""

    model_config = SettingsConfigDict(
        env_prefix="FORESHARD_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        nested_model_default_partial_update=True,
    )

    control_uri: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?directConnection=true")
    control_database: str = "foreshard"
    kafka_bootstrap: str = "127.0.0.1:9092"
    access_topic: str = "foreshard.access"
    replication_topic: str = "foreshard.replication"
    data_dir: Path = Path("var/foreshard")
    user_key: SecretStr | None = None
    mongo_username: str | None = None
    mongo_password: SecretStr | None = None
    collections: tuple[CollectionSetting, ...] = ()
    observe: ObserveSettings = ObserveSettings()
    forecast: ForecastSettings = ForecastSettings()
    plan: PlanSettings = PlanSettings()
    migrate: MigrateSettings = MigrateSettings()
    shadow: ShadowSettings = ShadowSettings()
    sidecar: SidecarSettings = SidecarSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the TOML file over the defaults."""
        path = os.environ.get("FORESHARD_CONFIG")
        file = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, *file)

    @classmethod
    def load(cls, **overrides: object) -> Settings:
        """Read the settings; raise :class:`ConfigurationError` with the first thing that is wrong with them."""
        path = os.environ.get("FORESHARD_CONFIG")
        if path and not Path(path).is_file():
            raise ConfigurationError("FORESHARD_CONFIG", f"no file {path}", "name an existing TOML file or unset it")
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = "FORESHARD_" + "__".join(str(part).upper() for part in first["loc"])
            raise ConfigurationError(name, first["msg"], "correct it in the environment or the configuration file") from None

    @property
    def sharded_collections(self) -> tuple[ShardedCollection, ...]:
        """The collections whose documents Foreshard places."""
        return tuple(ShardedCollection(c.database, c.collection, c.key_field, c.policy) for c in self.collections)

    def require_user_key(self) -> bytes:
        """The HMAC key that pseudonymises users; raise :class:`MissingSecret` where it is not set."""
        if self.user_key is None or not self.user_key.get_secret_value():
            raise MissingSecret("FORESHARD_USER_KEY", "the key that pseudonymises users")
        return self.user_key.get_secret_value().encode()
