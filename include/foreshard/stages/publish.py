"""The last stages of an hour: publish shadows and removals, check the routing table, and verify documents against it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.errors import StaleEpoch, UnknownShadow, VerificationFailed
from foreshard.model import SECONDS_PER_HOUR, GateResult, PlacementChange, PlannedShadow, RoutingTable
from foreshard.model.key_space import KeySpace, slot_number
from foreshard.model.shadow_state import WANTED, ShadowState
from foreshard.model.unit_set import UnitSet
from foreshard.ports.gating import record_gate
from foreshard.ports.publishing import TableEdit, publish_edit
from foreshard.ports.replication import Shadow
from foreshard.ports.routing import Publication
from foreshard.ports.verification import Verification
from foreshard.routing.table import locate
from foreshard.shadow.machine import next_state
from foreshard.stages._ports import (
    WithGates,
    WithMoveJournal,
    WithPlanning,
    WithPlans,
    WithRegistry,
    WithRouting,
    WithShadows,
    WithShardedCollections,
    WithVerifier,
)
from foreshard.stages.judging.published import published_changes
from foreshard.stages.listing import DelistKeysPorts, delist_idle_keys, units_in_moves
from foreshard.stages.verify import expected_placement

DOCUMENTS_VERIFIED = 200_000
"""Documents that an hour's verification reads: a few seconds' work, however many documents there are."""
REMEMBERED_PUBLICATIONS = 100
"""The table's gate checks that every key these publications listed is still listed."""


class PublishPorts(WithPlans, WithShadows, DelistKeysPorts, Protocol):
    """Reads the plan, forecasts, rules and open moves. Writes shadows' states and the routing table."""


class TableGatePorts(WithRouting, WithRegistry, WithMoveJournal, WithGates, Protocol):
    """Reads the routing table, its latest publications and their moves. Writes the gate's result."""


class VerifyPorts(WithRouting, WithRegistry, WithPlanning, WithMoveJournal, WithVerifier, WithShardedCollections, Protocol):
    """Reads the routing table, the hour's moves, and documents on every partition. Writes nothing."""


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """The changes of an hour's publication. ``published`` is False if no shadow changed. ``delisted``: the number of keys."""

    hour: datetime
    version: int
    published: bool
    shadows: tuple[str, ...]
    removals: tuple[str, ...]
    note: str
    delisted: int = 0


@dataclass(frozen=True, slots=True)
class VerifySummary:
    """The figures of a :class:`foreshard.ports.verification.Verification` of the table at ``version``."""

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
    slots: int
    all_slots: int

    def figures(self) -> tuple[tuple[str, str], ...]:
        """Each check by name, with its figures as text."""
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
            ("slots that were checked", f"{self.slots:,} of {self.all_slots:,}"),
        )


def publish_hour(ports: PublishPorts, hour: datetime) -> PublishSummary:
    """Publish every ready shadow and every removal in one transaction, then delist the keys that may go back to their slots.

    Moves have been published by their own switches. In the transaction of the shadows, ready shadows become ``live`` and
    removed ones ``retiring``. Retiring shadows that the table still lists are removed from it as well. A second call finds
    nothing to publish, and a dry run publishes nothing. Raise :class:`StaleEpoch` if other publications keep coming first.
    """
    plan = ports.plans.load(hour)
    if plan.dry_run:
        return PublishSummary(hour, ports.routing.version(), False, (), (), "dry run: nothing is published")
    decision = _ShadowDecision(0, (), (), ())

    def edit() -> TableEdit | None:
        nonlocal decision
        decision = _decide(ports, plan.removals)
        if not decision.changes:
            _change_states(ports, decision, None)
            return None
        cause = f"shadows of {hour.isoformat()}"
        return TableEdit(decision.changes, cause, lambda session, _version: _change_states(ports, decision, session))

    version = publish_edit(ports.routing, edit)
    delisted = len(delist_idle_keys(ports, hour))
    published = tuple(shadow.shadow_id for shadow in decision.ready)
    removed = tuple(shadow.shadow_id for shadow in decision.removed)
    if version is None:
        return PublishSummary(hour, decision.read_version, False, published, removed, "nothing to publish", delisted)
    note = f"{len(published)} shadows and {len(removed)} removals"
    return PublishSummary(hour, version, True, published, removed, note, delisted)


def gate_table(ports: TableGatePorts, hour: datetime) -> GateResult:
    """Check the published table against its latest publications and their moves, and return the result.

    Raise :class:`foreshard.errors.GateFailed` if it has lost keys, an epoch has fallen, or nothing explains a change. What a
    person has accepted last is accepted in later hours too, because the same publications are read again.
    """
    from foreshard.quality.gates import check_table

    table = ports.routing.current()
    latest = ports.routing.since(max(0, table.version - REMEMBERED_PUBLICATIONS))
    result = check_table(
        table,
        ports.registry.partitions(),
        hour,
        last_version=ports.routing.version(),
        previous_keys=_listed_before(latest),
        changes=published_changes(ports, latest),
        docs=ports.data_docs,
    )
    return record_gate(ports.gates, result, standing=ports.gates.last_acceptance(result.gate))


def verify_hour(ports: VerifyPorts, hour: datetime, everything: bool = False) -> VerifySummary:
    """Compare documents on every partition with the published table.

    About ``DOCUMENTS_VERIFIED`` documents are read: those of some slots, which take turns from hour to hour, and as many slots
    of the hour's moves. With fewer documents, or ``everything``, all of them are read. Raise :class:`VerificationFailed`, with
    examples, if a document is misplaced, doubled or missing, or a shadow differs.
    """
    version, space = ports.routing.version(), ports.routing.space()
    partitions, collections = ports.registry.partitions(), ports.sharded_collections
    documents = 0 if everything else ports.verifier.documents(partitions, collections)
    moved = {unit for record in ports.move_journal.find(hour=hour) for unit in record.move.units} if documents else ()
    slots = slots_to_verify(space, documents, hour, moved)
    found = ports.verifier.verify(partitions, collections, lambda: expected_placement(ports), slots)
    if not found.sound:
        raise VerificationFailed(f"documents for {hour.isoformat()}, table {version}", _differences(found))
    figures = {name: getattr(found, name) for name in VerifySummary.__slots__[2:-1]}
    return VerifySummary(hour, version, **figures, all_slots=space.slots)


def slots_to_verify(space: KeySpace, documents: int, hour: datetime, moved: Collection[str]) -> frozenset[int] | None:
    """Return the slots whose turn it is in ``hour``, and slots of the moved units; None if all documents are read."""
    if documents <= DOCUMENTS_VERIFIED:
        return None
    count = max(1, space.slots * DOCUMENTS_VERIFIED // documents)
    first = int(hour.timestamp() // SECONDS_PER_HOUR) * count
    touched = sorted(UnitSet(space, tuple(moved)).touched_slots())
    return frozenset(slot % space.slots for slot in range(first, first + count)) | frozenset(touched[:count])


@dataclass(frozen=True, slots=True)
class _ShadowDecision:
    """The shadows to list and to remove, and the rows of the table of ``read_version`` that change."""

    read_version: int
    ready: tuple[Shadow, ...]
    removed: tuple[Shadow, ...]
    changes: tuple[PlacementChange, ...]


def _decide(ports: PublishPorts, removals: tuple[PlannedShadow, ...]) -> _ShadowDecision:
    table = ports.routing.current()
    removed = [shadow for removal in removals if (shadow := _removable(ports, removal)) is not None]
    removed += [s for s in ports.shadows.shadows((ShadowState.RETIRING,)) if s.target in locate(table, s.key).shadows]
    leaving = {(shadow.key, shadow.target) for shadow in removed}
    found = ports.shadows.shadows((ShadowState.READY,))
    moving = units_in_moves(ports)
    ready = [s for s in found if _may_serve(s, table, moving) and (s.key, s.target) not in leaving]
    wanted = {shadow.key: list(locate(table, shadow.key).shadows) for shadow in (*ready, *removed)}
    for shadow in ready:
        wanted[shadow.key] += [shadow.target] if shadow.target not in wanted[shadow.key] else []
    for shadow in removed:
        wanted[shadow.key] = [target for target in wanted[shadow.key] if target != shadow.target]
    changes = (_change(table, key, tuple(shadows)) for key, shadows in sorted(wanted.items()))
    return _ShadowDecision(
        table.version, tuple(ready), tuple(removed), tuple(change for change in changes if change is not None)
    )


def _change_states(ports: WithShadows, decision: _ShadowDecision, session: object | None) -> None:
    """Enter the shadows' new states. Raise :class:`StaleEpoch` if one has changed since it was read."""
    for shadow, event in (*((s, "publish") for s in decision.ready), *((s, "remove") for s in decision.removed)):
        retiring = shadow.state is ShadowState.RETIRING
        state = shadow.state if retiring else next_state(shadow.state, event)
        if ports.shadows.change(shadow, state, {}, session=session) is None:
            raise StaleEpoch(shadow.key, shadow.epoch, shadow.epoch)


def _may_serve(shadow: Shadow, table: RoutingTable, moving: Collection[str]) -> bool:
    """Whether the shadow's source is still the key's primary partition, and its target is not.

    A key that is not listed waits while its slot moves.
    """
    if shadow.key not in table.placements and table.slots.of(shadow.key).key in moving:
        return False
    return locate(table, shadow.key).primary == shadow.source != shadow.target


def _removable(ports: PublishPorts, removal: PlannedShadow) -> Shadow | None:
    """Return the shadow to remove, or None if it is being removed already or does not exist."""
    try:
        shadow = ports.shadows.get(removal.shadow_id)
    except UnknownShadow:
        return None
    return shadow if shadow.state in (*WANTED, ShadowState.FAILED) else None


def _change(table: RoutingTable, key: str, shadows: tuple[str, ...]) -> PlacementChange | None:
    placement = locate(table, key)
    if shadows == placement.shadows:
        return None
    listed_at = placement.epoch if key in table.placements else 0
    return PlacementChange(key, placement.primary, shadows, listed_at, placement.epoch, why="shadowed")


def _listed_before(latest: Sequence[Publication]) -> set[str]:
    """Return the keys that the latest publications have listed and not delisted."""
    last = {change.key: change for publication in latest for change in publication.changes}
    return {unit for unit, change in last.items() if slot_number(unit) is None and not change.delist}


def _differences(found: Verification) -> list[str]:
    """Return the counts as one line, then the examples."""
    counts = (
        f"{found.misplaced} misplaced ({found.missing} of them not at their primary), {found.duplicated} doubled,"
        f" {found.shadow_differences} different in shadows"
    )
    return [counts, *found.examples]
