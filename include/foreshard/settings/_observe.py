"""Settings of the observe stage: request types, co-access, and the access log's quality gate."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from foreshard.model import RequestKind
from foreshard.settings._section import SettingsSection


class RequestTypeSetting(SettingsSection):
    """One request type of the access log."""

    kind: RequestKind = Field(description="`read` or `write`. Only reads can be served by a shadow.")
    weight: float = Field(gt=0, description="Cost of one access, in cost units. Used when the record has no cost of its own.")


class ObserveEngine(StrEnum):
    """What reads and counts the records of an hour."""

    POLARS = "polars"
    SPARK = "spark"


class ObserveSettings(SettingsSection):
    """How accesses are counted."""

    request_types: dict[str, RequestTypeSetting] = Field(
        default={
            "read": RequestTypeSetting(kind=RequestKind.READ, weight=1.0),
            "write": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
            "insert": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
            "update": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
            "delete": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
            "scan": RequestTypeSetting(kind=RequestKind.READ, weight=4.0),
        },
        description="The request types that the access log may contain, by name, each with its `kind` and `weight`."
        " The observe stage quarantines records of any other type.",
    )
    co_access_window: timedelta = Field(
        default=timedelta(minutes=5),
        description="Two accesses by the same session or user count as co-access when they are at most this far apart.",
    )
    minimum_distinct_users: int = Field(
        default=5,
        ge=1,
        description="Co-access seen from fewer distinct users than this is dropped, so that no user can be recognised by it.",
    )
    maximum_quarantined_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The access log's gate fails when a larger share of an hour's records is quarantined."
        " Fewer than 5 records only warn.",
    )
    minimum_usual_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="The access log's gate fails when an hour has fewer accesses than this share of what the same hour had"
        " in the previous weeks. It only warns if this hour of the day was quiet on some days of the last four weeks.",
    )
    minimum_key_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The access log's gate fails when an hour has fewer distinct keys than this share of what its number of"
        " accesses had in the previous weeks.",
    )
    floor_share: float = Field(
        default=0.001,
        ge=0,
        le=1,
        description="A key is forecast and placed by itself from this share of the mean capacity of a partition on, and until"
        " it stays below half of it for a week. Smaller keys are summed into their slots.",
    )
    maximum_units: int = Field(
        default=20_000,
        ge=1,
        description="At most this many keys, the hottest, are forecast by themselves, besides the listed ones.",
    )
    few_keys: int = Field(
        default=5_000,
        ge=0,
        description="`floor_share` applies only if an hour of the history had more keys than this. Else every key is forecast"
        " by itself.",
    )
    access_log_paths: tuple[str, ...] = Field(
        default=(),
        description="Files, folders and patterns (`logs/*.jsonl.gz`) to read the access log from, also in an object store"
        " (`s3://bucket/logs`); or databases with a profiler (`mongodb://host/shop`). Empty: read it from Kafka.",
    )
    access_log_zone: str | None = Field(
        default=None,
        description="Time zone of times in the access log that name none, such as `Europe/Berlin`. None: UTC, with a note.",
    )
    access_log_mapping: Path | None = Field(
        default=None,
        description="TOML file that says what the fields of the access log mean, if it does not have the standard columns."
        " `foreshard observe check` proposes one.",
    )
    allowed_lateness: timedelta = Field(
        default=timedelta(minutes=5),
        description="By how much the time of a message in Kafka may differ from its record's. Hours that this reaches are"
        " read again after the next hour, and counted again if late records have arrived.",
    )

    engine: ObserveEngine = Field(
        default=ObserveEngine.POLARS,
        description="What reads and counts an hour's records: `polars` in the task itself, or `spark` on a cluster, for hours"
        " that do not fit one machine. Both give the same bytes.",
    )
    spark_master: str = Field(
        default="local[*]", description="Spark's master, such as `spark://host:7077`, `yarn` or `k8s://…`."
    )
    spark_options: dict[str, str] = Field(
        default={},
        description='Spark\'s options, as JSON: `{"spark.executor.memory": "8g"}`. `spark.pyspark.python` names the Python of'
        " the executors.",
    )

    @field_validator("access_log_paths", mode="before")
    @classmethod
    def _as_texts(cls, given: Any) -> Any:
        return [str(one) if isinstance(one, Path) else one for one in given] if isinstance(given, list | tuple) else given

    @field_validator("access_log_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        try:
            return name and ZoneInfo(name).key
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}; give one such as Europe/Berlin or UTC") from None
