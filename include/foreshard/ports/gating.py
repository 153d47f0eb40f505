"""Save a gate's result, and stop the stage if the gate failed."""

from __future__ import annotations

from foreshard.errors import GateFailed
from foreshard.model import GateResult
from foreshard.ports.stages import GateStore


def record_gate(gates: GateStore, result: GateResult) -> None:
    """Save the result. Raise :class:`GateFailed` unless it passed, so that no later stage acts on the data."""
    gates.save(result)
    if not result.passed:
        raise GateFailed(result.gate, result.hour.isoformat(), result.failures)
