"""A named person accepts what a gate has found wrong with an hour, with a reason."""

from __future__ import annotations

from datetime import UTC, datetime

from foreshard.errors import HourRefused
from foreshard.model import Acceptance
from foreshard.stages._ports import WithGates

ACCEPTABLE = ("access_log", "forecasts", "table")
"""The gates whose results a person can accept. A plan is not accepted: change its setting or rule, and plan again."""


def accept_result(ports: WithGates, gate: str, hour: datetime, by: str, because: str) -> Acceptance:
    """Save that ``by`` accepts what the gate found wrong with the hour, ``because`` of a reason. The gate then lets it pass.

    Raise :class:`HourRefused` without a reason or a name, if the gate did not refuse the hour, or for a failure that no person
    can accept.
    """
    by, because = " ".join(by.split()), " ".join(because.split())
    if not because or not by:
        missing = "a reason (--because)" if not because else "the name of a person (--by)"
        raise HourRefused(hour, "is accepted only by a named person with a reason", f"give {missing}")
    found = ports.gates.load(gate, hour)
    if found.passed:
        raise HourRefused(hour, "was not refused by its gate", "there is nothing to accept")
    if found.final or gate not in ACCEPTABLE:
        line = (found.final or found.failures)[0]
        raise HourRefused(hour, f"can't be accepted by a person: {line}", f"mend the cause, and run the gate {gate} again")
    acceptance = Acceptance(by, because, datetime.now(UTC), found.failures)
    ports.gates.accept(gate, hour, acceptance)
    return acceptance
