"""Settings of moves."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from foreshard.settings._section import SettingsSection

UNLIMITED_RATE = 20.0 * 2**20
"""Bytes per second that plans assume of moves without a limit."""


class MigrateSettings(SettingsSection):
    """How keys are moved. A move that exceeds a timeout is reverted."""

    batch_documents: int = Field(default=1_000, ge=1, description="Documents that are copied in one transaction.")
    catch_up_timeout: timedelta = Field(
        default=timedelta(minutes=10), description="The move is reverted if the target has not caught up within this time."
    )
    fence_timeout: timedelta = Field(
        default=timedelta(seconds=5),
        description="Longest time that apps may be unable to write to the key. The move is reverted after it.",
    )
    lease_duration: timedelta = Field(
        default=timedelta(seconds=10), description="Another process may take over a move after its mover was silent this long."
    )
    source_kept: timedelta = Field(
        default=timedelta(minutes=15),
        description="The source's copy is kept at least this long after the switch. Open cursors go on reading it, and an undo"
        " needs no copy.",
    )
    parallel_moves: int = Field(
        default=2,
        ge=1,
        description="Moves that may copy from one partition at once, and to one partition. Others wait. Planner and lab count"
        " with it too.",
    )
    bytes_per_second: float = Field(
        default=10.0 * 2**20,
        ge=0,
        description="Bytes that one move copies in a second at most (0: no limit). `foreshard moves throttle` changes it for"
        " running moves. Plans assume it, until enough moves have been measured.",
    )
    documents_per_second: float = Field(
        default=0.0, ge=0, description="Documents that one move copies in a second at most (0: no limit)."
    )
    stuck_after: timedelta = Field(
        default=timedelta(minutes=15), description="A move that has been in the same state for longer is reported as stuck."
    )

    @property
    def planned_rate(self) -> float:
        """The bytes per second that plans assume: the limit, if there is one."""
        return self.bytes_per_second or UNLIMITED_RATE
