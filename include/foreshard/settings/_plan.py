"""Settings of the plan stage."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from foreshard.settings._section import SettingsSection


class PlanSettings(SettingsSection):
    """When a partition is relieved, and what one hour's plan may contain.

    Gains and prices are in expected overload hours over the forecast horizon.
    """

    high_water: float = Field(default=0.95, gt=0, description="A partition whose LPS is above this is relieved.")
    low_water: float = Field(
        default=0.85, gt=0, description="Relief goes on until the LPS is below this, and may not raise a target above it."
    )
    maximum_moves: int = Field(default=20, ge=0, description="Keys moved per plan to relieve partitions.")
    maximum_shadows: int = Field(default=5, ge=0, description="Shadows added per plan.")
    maximum_bytes: int = Field(default=10 * 2**30, ge=0, description="Bytes that the moves and shadows of one plan may copy.")
    maximum_write_share: float = Field(
        default=0.5, ge=0, le=1, description="A key gets no shadow if a larger share of its cost is writes."
    )
    minimum_gain: float = Field(
        default=0.1, ge=0, description="Overload hours that a move must remove for each key moved, net of its other costs."
    )
    relief_closeness: float = Field(
        default=0.6,
        ge=0,
        description="Weight of distance and co-access when relieving moves are ranked; 0 ranks by overload alone.",
    )
    settle_gain: float = Field(
        default=0.2,
        ge=0,
        description="Overload hours that moving a key closer to its readers and co-accessed keys must be worth within"
        " `payback_days`.",
    )
    maximum_settled: int = Field(
        default=20, ge=0, description="Keys moved per plan only to be closer to their readers and co-accessed keys; 0: none."
    )
    shadow_gain: float = Field(default=0.2, ge=0, description="Overload hours that a shadow must remove.")
    overload_mark: float = Field(
        default=1.0, gt=0, description="Share of a partition's capacity above which an hour counts as overloaded."
    )
    gigabyte_price: float = Field(default=0.01, ge=0, description="Price of copying one GiB, in overload hours.")
    crossing_cost: float = Field(
        default=1.0, ge=0, description="Extra cost units when two co-accessed keys are on different partitions, per co-access."
    )
    distance_weight: float = Field(
        default=1.5,
        ge=0,
        description="Share of an access's cost that is added when it is served from as far away as the two most distant"
        " partitions are apart.",
    )
    payback_days: float = Field(
        default=30.0,
        gt=0,
        description="Days within which a move closer to readers and co-accessed keys must pay off.",
    )
    hot_share: float = Field(
        default=0.15,
        gt=0,
        description="A key is hot if its mean peak load takes at least this share of its partition's capacity. Hot keys are"
        " shadowed rather than moved.",
    )
    far_km: float = Field(default=1000.0, gt=0, description="A read that is served from farther away than this, in km, is far.")
    far_share: float = Field(
        default=0.3, gt=0, le=1, description="A key gets a shadow for far reads if at least this share of its reads is far."
    )
    far_load: float = Field(
        default=0.05,
        ge=0,
        description="A key gets a shadow for far reads only if they take at least this share of its partition's capacity.",
    )
    reserve: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="Share of each partition's capacity that is kept free for unforecast bursts; 0: none.",
    )
    maximum_clump: int = Field(default=16, ge=1, description="Keys in a clump: a hot key and co-accessed keys, moved together.")
    shadow_apply_cost: float = Field(
        default=1.0, ge=0, description="Cost of applying a write to a shadow, as a share of the write's own cost."
    )
    error_correlation: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Average correlation of two keys' forecast errors. None: estimate it from the history.",
    )
    cooldown: timedelta = Field(
        default=timedelta(hours=20), description="A moved key is not moved again, and a new shadow not removed, for this long."
    )
    no_return: timedelta = Field(
        default=timedelta(hours=24), description="A moved key is not moved back to the partition it left for this long."
    )
    settle_rest: timedelta = Field(
        default=timedelta(days=14),
        description="A moved key is not moved to be closer to its readers and co-accessed keys for this long.",
    )
    move_time: timedelta = Field(
        default=timedelta(seconds=60),
        description="Assumed fixed duration of a move, until enough moves have been measured.",
    )
    maximum_listed: int = Field(
        default=100_000, ge=1, description="Keys that the routing table may list by name. All others are placed by their slots."
    )
    rate_window: timedelta = Field(
        default=timedelta(days=7), description="Moves of this long a period are measured for their duration and rate."
    )

    @model_validator(mode="after")
    def _low_water_is_lower(self) -> PlanSettings:
        if self.low_water > self.high_water:
            raise ValueError(f"low_water {self.low_water} is above high_water {self.high_water}")
        return self
