"""Errors between stages: missing results, failed gates, failed verification, and illegal transitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from foreshard.errors.foundation import ForeshardError


class MissingStageResult(ForeshardError):
    """A stage ran before the stage whose result it reads."""

    def __init__(self, result: str, hour: str, producer: str) -> None:
        super().__init__(f"no {result} for {hour}; run {producer} for that hour first")
        self.result, self.hour, self.producer = result, hour, producer


class GateFailed(ForeshardError):
    """A data-quality gate refused a stage's result. No later stage may act on it."""

    def __init__(self, gate: str, hour: str, failures: Sequence[str]) -> None:
        super().__init__(f"gate {gate} failed for {hour}: {'; '.join(failures)}")
        self.gate, self.hour, self.failures = gate, hour, tuple(failures)


class VerificationFailed(ForeshardError):
    """Documents or copies differ from what they must be."""

    def __init__(self, what: str, differences: Sequence[str]) -> None:
        shown = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        super().__init__(f"{what}: {len(differences)} differences: {shown}")
        self.what, self.differences = what, tuple(differences)


class IllegalTransition(ForeshardError):
    """A state machine has no transition for an event in its state."""

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"{machine} in state {state!r} cannot {event!r}")
        self.machine, self.state, self.event = machine, state, event


class HourRefused(ForeshardError):
    """The loop may not run, or not act, for an hour."""

    def __init__(self, hour: datetime, problem: str, remedy: str) -> None:
        super().__init__(f"hour {hour:%Y-%m-%dT%HZ} {problem}; {remedy}")
        self.hour, self.problem, self.remedy = hour, problem, remedy


class ClusterFailed(ForeshardError):
    """A cluster could not read or count an hour. Nothing of it was saved."""

    def __init__(self, master: str, problem: str) -> None:
        super().__init__(
            f"the cluster at {master} failed: {problem}; nothing was saved; look at its executors' logs, and run again"
        )
        self.master, self.problem = master, problem


class HourIncomplete(ForeshardError):
    """The access log does not have the whole hour yet."""

    def __init__(self, hour: datetime, problem: str, remedy: str) -> None:
        super().__init__(f"the access log of {hour:%Y-%m-%dT%HZ} is incomplete: {problem}; {remedy}")
        self.hour, self.problem, self.remedy = hour, problem, remedy
