"""Save a gate's result, and stop the stage if the gate failed and no person has accepted what it found."""

from __future__ import annotations

from dataclasses import replace

from foreshard.errors import GateFailed
from foreshard.model import Acceptance, GateResult
from foreshard.ports.stages import GateStore


def record_gate(gates: GateStore, result: GateResult, standing: Acceptance | None = None) -> GateResult:
    """Save the result and return it. Failures that a person has accepted are saved as warnings.

    ``standing``: an acceptance that holds beyond its hour. Raise :class:`GateFailed` unless the result passed, so that no later
    stage acts on the data.
    """
    given = (gates.acceptance(result.gate, result.hour) if result.failures else None, standing)
    result = _accepted(result, [acceptance for acceptance in given if acceptance is not None])
    gates.save(result)
    if not result.passed:
        raise GateFailed(result.gate, result.hour.isoformat(), result.failures)
    return result


def _accepted(result: GateResult, acceptances: list[Acceptance]) -> GateResult:
    """Return the result with its failures as warnings, if each of them is accepted and none is final."""
    said = {line: f"accepted by {one.by} ({one.because}): {line}" for one in reversed(acceptances) for line in one.failures}
    if not result.failures or result.final or not set(result.failures) <= said.keys():
        return result
    lines = tuple(said[line] for line in result.failures)
    return replace(result, passed=True, failures=(), warnings=(*lines, *result.warnings))
