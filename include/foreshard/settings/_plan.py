"""Settings of the plan stage."""

from __future__ import annotations

from pydantic import Field

from foreshard.settings._section import SettingsSection


class PlanSettings(SettingsSection):
    """When a partition is relieved, what one hour's plan may contain, and what it weighs.

    What the weights weigh is said in :mod:`foreshard.plan.objective`.
    """

    high_water: float = Field(
        default=0.95, gt=0, description="A partition whose LPS is above this is relieved; no target of a plan may pass it."
    )
    maximum_moves: int = Field(
        default=20, ge=0, description="Moves per plan. Slots and small keys that move together from a partition are one move."
    )
    maximum_shadows: int = Field(default=5, ge=0, description="Shadows added per plan.")
    maximum_bytes: int = Field(default=10 * 2**30, ge=0, description="Bytes that the moves and shadows of one plan may copy.")
    maximum_write_share: float = Field(
        default=0.5, ge=0, le=1, description="A key gets no shadow if a larger share of its cost is writes."
    )
    reserve: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="Share of each partition's capacity that a burst may need: placements are also judged under such a burst.",
    )
    nearness: float = Field(
        default=1.0,
        ge=0,
        description="Weight of serving keys near their users and together with co-accessed keys; 0: only load counts.",
    )
    churn: float = Field(
        default=1.0, ge=0, description="Weight of moving and copying: above 1 plans move less, below 1 more; 0: moves are free."
    )
    shadow_apply_cost: float = Field(
        default=1.0, ge=0, description="Cost of applying a write to a shadow, as a share of the write's own cost."
    )
    maximum_listed: int = Field(
        default=100_000, ge=1, description="Keys that the routing table may list by name. All others are placed by their slots."
    )
