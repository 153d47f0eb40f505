"""Settings of moves."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from foreshard.settings._section import SettingsSection


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
    stuck_after: timedelta = Field(
        default=timedelta(minutes=15), description="A move that has been in the same state for longer is reported as stuck."
    )
