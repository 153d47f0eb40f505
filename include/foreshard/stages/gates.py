"""What every gated stage does with a gate's result: keep it, and stop where it says no."""

from __future__ import annotations

from foreshard.errors import GateFailed
from foreshard.model import GateResult
from foreshard.stages._ports import WithGates


def record(ports: WithGates, result: GateResult) -> None:
    """Save the result in ``gates``; raise :class:`GateFailed` unless it passed, so that nothing downstream acts."""
    ports.gates.save(result)
    if not result.passed:
        raise GateFailed(result.gate, result.hour.isoformat(), result.failures)
