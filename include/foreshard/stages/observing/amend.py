"""Amends hours that are counted already by records that have come since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.model import ONE_HOUR
from foreshard.stages.observe import ExtractPorts, TallyPorts, extract_hour, saved_hour, tally_hour
from foreshard.stages.observing.gate import AccessLogGatePorts, gate_access_log


class AmendPorts(ExtractPorts, AccessLogGatePorts, TallyPorts, Protocol):
    """Reads the access log. Writes raw hours, the gate's results and tallies."""


@dataclass(frozen=True, slots=True)
class AmendSummary:
    """The hours that were counted again, and by how many records each has changed, as lines for people."""

    hours: tuple[datetime, ...]
    notes: tuple[str, ...]


def amend_hours(ports: AmendPorts, hour: datetime) -> AmendSummary:
    """Read the counted hours before ``hour`` that the allowed lateness reaches again, and count the changed ones.

    Hours that another source gave are left alone.
    Raise :class:`foreshard.errors.GateFailed` if a changed hour must not be counted. Its former count stays.
    """
    reach = -(-ports.observe_settings.allowed_lateness // ONE_HOUR)
    amended: list[datetime] = []
    notes: list[str] = []
    for earlier in ports.tallies.hours(hour - reach * ONE_HOUR, hour):
        saved = saved_hour(ports, earlier)
        if saved is None or saved.source != ports.access_log.name:
            continue
        raw = extract_hour(ports, earlier)
        if raw.before is None or raw.before == raw.records:
            continue
        warnings = gate_access_log(ports, earlier).warnings
        tally_hour(ports, earlier)
        amended.append(earlier)
        notes += [f"{earlier:%Y-%m-%dT%HZ}: {note}" for note in (*raw.notes, *warnings)]
    return AmendSummary(tuple(amended), tuple(notes))
