"""Settings of the forecast stage."""

from __future__ import annotations

from pydantic import Field

from foreshard.settings._section import SettingsSection


class ForecastSettings(SettingsSection):
    """How each key is forecast."""

    engine: str = Field(
        default="blended",
        description="The forecasting method: `blended` (several models, weighted by their past errors, carried by the hour),"
        " `seasonal` (the mean of similar days, carried by the hour), `batched` (Prophet's model, fitted to all keys at once)"
        " or `prophet` (`Prophet.fit`, key by key; slow).",
    )
    history_days: int = Field(default=28, ge=1, description="Days of history that a forecast is fitted to.")
    horizon_hours: int = Field(default=24, ge=1, le=168, description="Hours that a forecast covers.")
    quantile: float = Field(
        default=0.9, gt=0.5, lt=1, description="Upper quantile of the forecast that the LPS is computed from."
    )
    minimum_history_hours: int = Field(
        default=48,
        ge=1,
        description="Keys with a shorter history are forecast by a fallback. The forecasts' gate checks the total, and the"
        " share of fallbacks, only with at least this many hours of history.",
    )
    chunk_keys: int = Field(default=40, ge=1, description="Keys per mapped Airflow task of the `prophet` engine.")
