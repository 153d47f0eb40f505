"""What every gated stage does with a gate's result: keep it, and stop where it says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshard.errors import GateFailed
from foreshard.model import GateResult

if TYPE_CHECKING:
    from foreshard.wiring import Wiring


def record(wiring: Wiring, result: GateResult) -> None:
    """Save the result in ``gates``; raise :class:`GateFailed` unless it passed, so that nothing downstream acts."""
    wiring.gates.save(result)
    if not result.passed:
        raise GateFailed(result.gate, result.hour.isoformat(), result.failures)
