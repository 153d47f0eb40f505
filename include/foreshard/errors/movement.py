"""What goes wrong while keys are moved and copied."""

from __future__ import annotations

from datetime import timedelta

from foreshard.errors.foundation import ForeshardError


class MoveSuperseded(ForeshardError):
    """A mover's lease was taken by another; its batch was aborted by the target and it must stop."""

    def __init__(self, move_id: str, lease: int) -> None:
        super().__init__(f"move {move_id}: lease {lease} is superseded; this mover stops")
        self.move_id, self.lease = move_id, lease


class FenceTimedOut(ForeshardError):
    """A fence could not be changed in time; nothing was fenced by this attempt."""

    def __init__(self, namespace: str, problem: str, timeout: timedelta) -> None:
        seconds = timeout.total_seconds()
        super().__init__(f"fence on {namespace}: {problem} for {seconds:.1f} s; end long transactions there and retry")
        self.namespace, self.problem, self.timeout = namespace, problem, timeout


class FenceRefused(ForeshardError):
    """A collection that cannot be fenced."""

    def __init__(self, namespace: str, problem: str, remedy: str) -> None:
        super().__init__(f"fence on {namespace}: {problem}; {remedy}")
        self.namespace, self.problem, self.remedy = namespace, problem, remedy


class UnknownMove(ForeshardError):
    """A move id that the journal does not hold."""

    def __init__(self, move_id: str) -> None:
        super().__init__(f"no move {move_id!r} in the journal; foreshard moves list shows them")
        self.move_id = move_id


class MoveRefused(ForeshardError):
    """A move that cannot be carried out; before its switch it is reverted."""

    def __init__(self, move_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"move {move_id}: {problem}; {remedy}")
        self.move_id, self.problem, self.remedy = move_id, problem, remedy


class PlacementRuleBroken(ForeshardError):
    """A copy of a key was asked for where a placement rule does not let it be."""

    def __init__(self, key: str, partition_id: str, claim: str, rule_id: str) -> None:
        super().__init__(
            f"{key!r} {claim}, so it can't go to {partition_id}; foreshard rules check {key!r} says where it may be"
        )
        self.key, self.partition_id, self.claim, self.rule_id = key, partition_id, claim, rule_id


class UnusableRule(ForeshardError):
    """A placement rule that can't be kept."""

    def __init__(self, selector: str, problem: str, remedy: str) -> None:
        super().__init__(f"rule for {selector!r}: {problem}; {remedy}")
        self.selector, self.problem, self.remedy = selector, problem, remedy


class UnknownRule(ForeshardError):
    """A placement rule that the control database does not hold."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(f"no placement rule {rule_id!r}; foreshard rules list shows them all")
        self.rule_id = rule_id


class MoveTimedOut(ForeshardError):
    """A step of a move that did not end within its limit; before its switch it is reverted."""

    def __init__(self, move_id: str, step: str, limit: timedelta) -> None:
        super().__init__(f"move {move_id}: {step} took more than {limit.total_seconds():.1f} s; move it at a quieter hour")
        self.move_id, self.step, self.limit = move_id, step, limit


class HistoryLost(ForeshardError):
    """A partition's oplog no longer holds the changes since the position that was asked for."""

    def __init__(self, partition_id: str) -> None:
        super().__init__(f"partition {partition_id}: its oplog no longer holds the changes asked for; give it a larger oplog")
        self.partition_id = partition_id


class ClockDrift(ForeshardError):
    """A time that is too far ahead of this host's clock to be taken over."""

    def __init__(self, origin: str, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(f"clock of {origin} is {ahead_ms} ms ahead (limit {limit_ms} ms); synchronise the hosts' clocks")
        self.origin, self.ahead_ms, self.limit_ms = origin, ahead_ms, limit_ms


class UnknownShadow(ForeshardError):
    """A shadow id that the control database does not list."""

    def __init__(self, shadow_id: str) -> None:
        super().__init__(f"unknown shadow {shadow_id!r}; foreshard shadows list shows them all")
        self.shadow_id = shadow_id


class UnknownConflict(ForeshardError):
    """A conflict id that the control database does not list."""

    def __init__(self, conflict_id: str) -> None:
        super().__init__(f"unknown conflict {conflict_id!r}; foreshard shadows conflicts list shows them all")
        self.conflict_id = conflict_id


class ShadowRefused(ForeshardError):
    """A shadow that cannot be made or kept as asked."""

    def __init__(self, shadow_id: str, problem: str, remedy: str) -> None:
        super().__init__(f"shadow {shadow_id}: {problem}; {remedy}")
        self.shadow_id, self.problem, self.remedy = shadow_id, problem, remedy


class ReplicaRefused(ForeshardError):
    """A partition does not take a replicated document, whatever else is in the batch."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"a replicated document was refused: {problem}; correct the data on the shadow's partition")
        self.problem = problem


class ReplicatorSuperseded(ForeshardError):
    """Another process replicates now; what this one was about to note as done is not noted."""

    def __init__(self, partition_id: str, term: int) -> None:
        super().__init__(f"capture of partition {partition_id}: term {term} is superseded; this replicator stops")
        self.partition_id, self.term = partition_id, term


class CaptureLost(ForeshardError):
    """A change stream cannot continue where it stopped, so that changes may have been missed; its shadows are compared anew."""

    def __init__(self, partition_id: str, problem: str) -> None:
        super().__init__(f"capture of partition {partition_id}: {problem}; its shadows are compared anew")
        self.partition_id, self.problem = partition_id, problem
