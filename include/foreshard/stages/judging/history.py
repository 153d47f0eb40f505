"""Judges the hours of an import like hours that are observed, each by the hours before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from foreshard.errors import GateFailed
from foreshard.model import Acceptance, GateResult, HourCounts, HourTally
from foreshard.ports.gating import record_gate
from foreshard.stages._ports import WithGates, WithObserveSettings, WithTallies
from foreshard.stages.judging.compared import before_of, hours_compared


class HistoryJudgePorts(WithObserveSettings, WithTallies, WithGates, Protocol):
    """Reads tallies. Writes the results of hours that are refused, accepted, or were refused before."""


@dataclass(frozen=True, slots=True)
class AcceptedBy:
    """A person who accepts every hour of an import that the gate refuses, and the reason."""

    by: str
    because: str


@dataclass
class HistoryJudge:
    """Judges hours one after the other, oldest first. A refused hour is no measure for later ones.

    ``seen`` are all hours, refused ones too: they tell whether hours repeat by schedule. ``quarantined``: reason → number of
    records of refused hours.
    """

    ports: HistoryJudgePorts
    accepted_by: AcceptedBy | None
    counted: dict[datetime, HourCounts]
    refused_before: frozenset[datetime]
    refused: list[GateResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seen: dict[datetime, HourCounts] = field(default_factory=dict)
    quarantined: dict[datetime, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, ports: HistoryJudgePorts, hours: Sequence[datetime], accepted_by: AcceptedBy | None = None) -> HistoryJudge:
        """Return the judge of ``hours``, who knows what is counted before and between them."""
        known = {at for hour in (hours[:1] or ()) for at in hours_compared(hour)} | set(_span(hours))
        counted = {found.hour: found for found in ports.tallies.counts(sorted(known))}
        refused = ports.gates.refused("access_log", hours[0], hours[-1]) if hours else ()
        return cls(ports, accepted_by, counted, frozenset(refused), seen=dict(counted))

    def passes(self, tally: HourTally, quarantined: Mapping[str, int]) -> bool:
        """Return whether the hour may be counted, and save its result if that is not the usual one."""
        load, hour = tally.key_load, tally.hour
        found = HourCounts(hour, int(load["count"].sum()), int(load["partitionable_key"].nunique()), facts=tally.facts)
        self.seen[hour] = found
        return self._is_admitted(found, quarantined)

    def second_look(self, tally: Callable[[datetime], HourTally]) -> list[HourTally]:
        """Judge the refused hours again, now that later ones are known, and return those that pass: a schedule shows late."""
        refused, self.refused = [result.hour for result in self.refused], []
        return [tally(hour) for hour in refused if self._is_admitted(self.seen[hour], self.quarantined[hour])]

    def _is_admitted(self, found: HourCounts, quarantined: Mapping[str, int]) -> bool:
        from foreshard.quality.gates import judge_hour

        hour = found.hour
        result = judge_hour(found, quarantined, self.ports.observe_settings, before_of(hour, self.counted, self.seen))
        if not result.passed or hour in self.refused_before or hour in self.quarantined:
            try:
                result = self._recorded(result)
            except GateFailed:
                self.refused.append(result)
                self.quarantined[hour] = quarantined
                return False
        self.warnings += [f"{hour:%Y-%m-%dT%HZ}: {line}" for line in result.warnings]
        self.counted[hour] = found
        return True

    def _recorded(self, result: GateResult) -> GateResult:
        """Save the result. Raise :class:`GateFailed` if it failed, and no person has accepted it."""
        standing = None
        if self.accepted_by is not None and result.failures:
            who = self.accepted_by
            standing = Acceptance(who.by, who.because, datetime.now(UTC), result.failures)
        recorded = record_gate(self.ports.gates, result, standing)
        if standing is not None:
            self.ports.gates.accept(result.gate, result.hour, standing)
        return recorded


def _span(hours: Sequence[datetime]) -> Sequence[datetime]:
    from foreshard.observe.hours import hours_between

    return hours_between(hours[0], hours[-1]) if hours else ()
