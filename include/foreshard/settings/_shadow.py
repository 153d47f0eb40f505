"""Settings of shadows."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from foreshard.settings._section import SettingsSection


class ShadowSettings(SettingsSection):
    """How shadows are kept up to date."""

    maximum_staleness: timedelta = Field(
        default=timedelta(seconds=10),
        description="Sidecars send no reads to a shadow that is further behind its primary copy, unless the request says"
        " otherwise. A live shadow that is further behind is reported as stale.",
    )
    batch_documents: int = Field(default=500, ge=1, description="Documents that are copied or applied in one transaction.")
    apply_timeout: timedelta = Field(
        default=timedelta(minutes=5), description="A stage waits at most this long for a shadow to catch up."
    )
    lease_duration: timedelta = Field(
        default=timedelta(seconds=15), description="Another applier takes over after the active one was silent this long."
    )
    grace_period: timedelta = Field(
        default=timedelta(seconds=30),
        description="A removed shadow's documents are deleted once every sidecar has acknowledged a table without it, or this"
        " long after it left the table.",
    )
    tombstone_retention: timedelta = Field(
        default=timedelta(days=14), description="How long the versions of deleted documents are kept on a shadow's partition."
    )
