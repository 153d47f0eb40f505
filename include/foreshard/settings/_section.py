"""The base of every settings section."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingsSection(BaseModel):
    """An immutable group of settings. An unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
