"""The last stages of an hour: publish ready shadows and removals, check the table, and verify from the data itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from foreshard.errors import StaleEpoch, UnknownShadow, VerificationFailed
from foreshard.model import ONE_HOUR, PlacementChange, PlannedShadow, RoutingTable
from foreshard.model.shadow_state import WANTED, ShadowState
from foreshard.ports.replication import Shadow
from foreshard.ports.verification import ExpectedPlacement, Verification
from foreshard.routing.table import locate
from foreshard.shadow.machine import next_state
from foreshard.stages._ports import (
    WithGates,
    WithPlanning,
    WithPlans,
    WithRegistry,
    WithRouting,
    WithShadows,
    WithShardedCollections,
    WithTallies,
    WithVerifier,
)

ATTEMPTS = 5
"""Publications that another one overtakes before this one gives up; each starts from the table as it is then."""

REMEMBERED_PUBLICATIONS = 100
"""The table's gate asks that no key which these listed has been lost."""


class PublishPorts(WithPlans, WithShadows, WithRouting, Protocol):
    """Reads the plan. Writes shadows' states and the routing table."""


class TableGatePorts(WithRouting, WithTallies, WithRegistry, WithGates, Protocol):
    """Reads the routing table and the hour's tally. Writes the gate's result."""


class VerifyPorts(WithRouting, WithRegistry, WithPlanning, WithVerifier, WithShardedCollections, Protocol):
    """Reads the routing table and every partition's documents. Writes nothing."""


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What an hour's publication changed; ``published`` is False where there was nothing to publish."""

    hour: datetime
    version: int
    published: bool
    shadows: tuple[str, ...]
    removals: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class VerifySummary:
    """What :class:`foreshard.ports.verification.Verification` found for the table of ``version``."""

    hour: datetime
    version: int
    documents: int
    keys: int
    misplaced: int
    duplicated: int
    missing: int
    shadow_copies: int
    shadow_documents: int
    shadow_differences: int
    in_transit: int
    without_key: int

    def figures(self) -> tuple[tuple[str, str], ...]:
        """Each check by name with its figures, for people."""
        return (
            (
                f"documents once, as primary, where table {self.version} says",
                f"{self.documents:,} documents, {self.keys:,} keys",
            ),
            ("documents anywhere else", f"{self.misplaced:,} misplaced, {self.duplicated:,} doubled, {self.missing:,} missing"),
            ("shadows compared with their primaries", f"{self.shadow_copies:,} with {self.shadow_documents:,} documents"),
            ("documents that differ in a shadow", f"{self.shadow_differences:,}"),
            ("copies of moves and shadows under way", f"{self.in_transit:,} documents"),
            ("documents without a key", f"{self.without_key:,}"),
        )


def publish_hour(ports: PublishPorts, hour: datetime) -> PublishSummary:
    """Publish every ready shadow and every removal in one transaction; moves were published by their own switches.

    Shadows become ``live`` and removed ones ``retiring`` in the same transaction; retiring ones that the table still lists
    leave it as well. Running it again finds nothing to publish. A
    dry run publishes nothing. Raise :class:`StaleEpoch` where other publications keep overtaking this one.
    """
    plan = ports.plans.load(hour)
    if plan.dry_run:
        return PublishSummary(hour, ports.routing.version(), False, (), (), "dry run: nothing is published")
    for attempt in range(ATTEMPTS):
        try:
            return _publish(ports, hour, plan.removals)
        except StaleEpoch:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError


def gate_table(ports: TableGatePorts, hour: datetime) -> None:
    """Check the published table; raise :class:`foreshard.errors.GateFailed` where it lost keys or makes no sense."""
    from foreshard.quality.gates import check_table
    from foreshard.stages.gates import record

    table = ports.routing.current()
    accessed = ports.tallies.key_load(hour, hour + ONE_HOUR)["partitionable_key"]
    result = check_table(
        table,
        ports.registry.partitions(),
        hour,
        last_version=ports.routing.version(),
        previous_keys=_listed_before(ports),
        live_keys=[str(key) for key in accessed.unique()],
        docs=ports.data_docs,
    )
    record(ports, result)


def verify_hour(ports: VerifyPorts, hour: datetime) -> VerifySummary:
    """Read every partition's documents and compare them with the published table.

    Raise :class:`VerificationFailed`, with examples, where a document is misplaced, doubled or missing, or a shadow differs.
    """
    version = ports.routing.version()
    found = ports.verifier.verify(ports.registry.partitions(), ports.sharded_collections, lambda: _expectation(ports))
    if not found.sound:
        raise VerificationFailed(f"documents for {hour.isoformat()}, table {version}", _differences(found))
    return VerifySummary(hour, version, **{name: getattr(found, name) for name in VerifySummary.__slots__[2:]})


def _publish(ports: PublishPorts, hour: datetime, removals: tuple[PlannedShadow, ...]) -> PublishSummary:
    table = ports.routing.current()
    ready = [s for s in ports.shadows.shadows((ShadowState.READY,)) if _may_serve(s, table)]
    removed = [shadow for removal in removals if (shadow := _removable(ports, removal)) is not None]
    removed += [s for s in ports.shadows.shadows((ShadowState.RETIRING,)) if s.target in locate(table, s.key).shadows]
    going = {(shadow.key, shadow.target) for shadow in removed}
    ready = [shadow for shadow in ready if (shadow.key, shadow.target) not in going]
    wanted: dict[str, list[str]] = {}
    for shadow in (*ready, *removed):
        wanted.setdefault(shadow.key, list(locate(table, shadow.key).shadows))
    for shadow in ready:
        wanted[shadow.key] += [shadow.target] if shadow.target not in wanted[shadow.key] else []
    for shadow in removed:
        wanted[shadow.key] = [target for target in wanted[shadow.key] if target != shadow.target]
    changes = [change for key, shadows in sorted(wanted.items()) if (change := _change(table, key, tuple(shadows))) is not None]

    def within(session: Any, _version: int) -> None:
        for shadow, event in (*((s, "publish") for s in ready), *((s, "remove") for s in removed)):
            leaves = shadow.state is ShadowState.RETIRING
            state = shadow.state if leaves else next_state(shadow.state, event)
            if ports.shadows.change(shadow, state, {}, session=session) is None:
                raise StaleEpoch(shadow.key, shadow.epoch, shadow.epoch)

    if changes:
        version = ports.routing.publish(changes, f"shadows of {hour.isoformat()}", within=within)
    else:
        within(None, version := table.version)
    published = tuple(shadow.shadow_id for shadow in ready)
    note = f"{len(published)} shadows and {len(removed)} removals" if changes else "nothing to publish"
    return PublishSummary(hour, version, bool(changes), published, tuple(s.shadow_id for s in removed), note)


def _may_serve(shadow: Shadow, table: RoutingTable) -> bool:
    """Whether the shadow still copies from its key's primary, and isn't that itself."""
    return locate(table, shadow.key).primary == shadow.source != shadow.target


def _removable(ports: PublishPorts, removal: PlannedShadow) -> Shadow | None:
    """The shadow as it stands, where it hasn't gone already."""
    try:
        shadow = ports.shadows.get(removal.shadow_id)
    except UnknownShadow:
        return None
    return shadow if shadow.state in (*WANTED, ShadowState.FAILED) else None


def _change(table: RoutingTable, key: str, shadows: tuple[str, ...]) -> PlacementChange | None:
    placement = locate(table, key)
    if shadows == placement.shadows:
        return None
    return PlacementChange(key, placement.primary, shadows, placement.epoch, max(placement.epoch, 1))


def _listed_before(ports: TableGatePorts) -> set[str]:
    """The keys that the latest publications have listed."""
    since = max(0, ports.routing.version() - REMEMBERED_PUBLICATIONS)
    return {change.key for publication in ports.routing.since(since) for change in publication.changes}


def _expectation(ports: VerifyPorts) -> ExpectedPlacement:
    """The published table and what is on its way; read in this order, so that a copy is explained by either."""
    before = ports.planning.copies_in_transit()
    table = ports.routing.current()
    return ExpectedPlacement(table, before | ports.planning.copies_in_transit())


def _differences(found: Verification) -> list[str]:
    """The counts in one entry, then examples."""
    counts = (
        f"{found.misplaced} misplaced ({found.missing} of them not at their primary), {found.duplicated} doubled,"
        f" {found.shadow_differences} different in shadows"
    )
    return [counts, *found.examples]
