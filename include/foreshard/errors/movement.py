"""Errors of moves, shadows and placement rules."""

from __future__ import annotations

from datetime import timedelta

from foreshard.errors.foundation import ForeshardError


class MoveSuperseded(ForeshardError):
    """Another mover has taken the lease. The target aborted this mover's batch, and the mover must stop."""

    def __init__(self, move_id: str, lease: int) -> None:
        super().__init__(f"move {move_id}: lease {lease} is superseded; this mover stops")
        self.move_id, self.lease = move_id, lease


class FenceTimedOut(ForeshardError):
    """A fence could not be changed in time. This attempt fenced nothing."""

    def __init__(self, namespace: str, problem: str, timeout: timedelta) -> None:
        seconds = timeout.total_seconds()
        super().__init__(f"fence on {namespace}: {problem} for {seconds:.1f} s; end long transactions there and retry")
        self.namespace, self.problem, self.timeout = namespace, problem, timeout


class FenceRefused(ForeshardError):
    """A collection cannot be fenced."""

    def __init__(self, namespace: str, problem: str, remedy: str) -> None:
        super().__init__(f"fence on {namespace}: {problem}; {remedy}")
        self.namespace, self.problem, self.remedy = namespace, problem, remedy


class UnknownMove(ForeshardError):
    """The journal has no such move."""

    def __init__(self, move_id: str) -> None:
        super().__init__(f"no move {move_id!r} in the journal; foreshard moves list shows them")
        self.move_id = move_id


class MoveHasEnded(ForeshardError):
    """A mover or a cleaner may not take this move, because of its state."""

    def __init__(self, move_id: str, state: str) -> None:
        super().__init__(
            f"move {move_id} is {state}, so there is nothing to take over; foreshard moves show {move_id} tells more"
        )
        self.move_id, self.state = move_id, state


class MoveRefused(ForeshardError):
    """A move cannot be carried out. Before its switch it is reverted."""

    def __init__(self, move_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"move {move_id}: {problem}; {remedy}")
        self.move_id, self.problem, self.remedy = move_id, problem, remedy


class PlacementRuleBroken(ForeshardError):
    """A placement rule forbids a copy of the key on that partition."""

    def __init__(self, key: str, partition_id: str, claim: str, rule_id: str) -> None:
        super().__init__(
            f"{key!r} {claim}, so it can't go to {partition_id}; foreshard rules check {key!r} says where it may be"
        )
        self.key, self.partition_id, self.claim, self.rule_id = key, partition_id, claim, rule_id


class UnusableRule(ForeshardError):
    """A placement rule cannot be kept."""

    def __init__(self, selector: str, problem: str, remedy: str) -> None:
        super().__init__(f"rule for {selector!r}: {problem}; {remedy}")
        self.selector, self.problem, self.remedy = selector, problem, remedy


class UnknownRule(ForeshardError):
    """The control database has no such placement rule."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"no placement rule {rule_id!r}; foreshard rules list shows them all")
        self.rule_id = rule_id


class MoveTimedOut(ForeshardError):
    """A step of a move exceeded its time limit. Before its switch the move is reverted."""

    def __init__(self, move_id: str, step: str, limit: timedelta) -> None:
        super().__init__(f"move {move_id}: {step} took more than {limit.total_seconds():.1f} s; move it at a quieter hour")
        self.move_id, self.step, self.limit = move_id, step, limit


class HistoryLost(ForeshardError):
    """A partition's oplog no longer holds the changes since the requested position."""

    def __init__(self, partition_id: str) -> None:
        super().__init__(f"partition {partition_id}: its oplog no longer holds the changes asked for; give it a larger oplog")
        self.partition_id = partition_id


class ClockDrift(ForeshardError):
    """A received time is too far ahead of this host's clock to be accepted."""

    def __init__(self, origin: str, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(f"clock of {origin} is {ahead_ms} ms ahead (limit {limit_ms} ms); synchronise the hosts' clocks")
        self.origin, self.ahead_ms, self.limit_ms = origin, ahead_ms, limit_ms


class UnknownShadow(ForeshardError):
    """The control database has no such shadow."""

    def __init__(self, shadow_id: str) -> None:
        super().__init__(f"unknown shadow {shadow_id!r}; foreshard shadows list shows them all")
        self.shadow_id = shadow_id


class UnknownConflict(ForeshardError):
    """The control database has no such conflict."""

    def __init__(self, conflict_id: str) -> None:
        super().__init__(f"unknown conflict {conflict_id!r}; foreshard shadows conflicts list shows them all")
        self.conflict_id = conflict_id


class ShadowRefused(ForeshardError):
    """A shadow cannot be created or kept as requested."""

    def __init__(self, shadow_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"shadow {shadow_id}: {problem}; {remedy}")
        self.shadow_id, self.problem, self.remedy = shadow_id, problem, remedy


class ReplicaRefused(ForeshardError):
    """A partition refuses a replicated document, whatever else is in the batch."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a replicated document was refused: {problem}; correct the data on the shadow's partition")
        self.problem = problem


class ReplicatorSuperseded(ForeshardError):
    """Another process replicates now. The checkpoint of this one was not saved."""

    def __init__(self, partition_id: str, lease: int) -> None:
        super().__init__(f"capture of partition {partition_id}: lease {lease} is superseded; this replicator stops")
        self.partition_id, self.lease = partition_id, lease


class CaptureLost(ForeshardError):
    """A change stream cannot continue, so changes may be missing. Its shadows are compared again."""

    def __init__(self, partition_id: str, problem: str) -> None:
        super().__init__(f"capture of partition {partition_id}: {problem}; its shadows are compared anew")
        self.partition_id, self.problem = partition_id, problem
