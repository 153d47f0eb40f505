"""List shadows in the routing table, and remove them.

A shadow leaves the table first. Its documents are deleted once no sidecar sends reads to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from foreshard.errors import ShadowRefused
from foreshard.model import PlacementChange
from foreshard.model.decided import shadow_id
from foreshard.model.shadow_state import CAUGHT_UP, ShadowState
from foreshard.ports.publishing import TableEdit, publish_edit
from foreshard.ports.replicas import GuardsMoved
from foreshard.ports.replication import Shadow
from foreshard.shadow.machine import step
from foreshard.stages._ports import WithReplicas, WithRouting, WithShadows, WithShadowSettings

HEARD_WITHIN = timedelta(minutes=2)
"""A sidecar that has been silent for longer is ignored."""


class RetirePorts(WithShadows, WithRouting, WithReplicas, WithShadowSettings, Protocol):
    """Reads the routing table and the sidecars' versions. Writes the table, and deletes shadows' documents."""


class ListShadowPorts(WithShadows, WithRouting, Protocol):
    """Writes shadows' states and the routing table."""


@dataclass(frozen=True, slots=True)
class RetireSummary:
    """Shadows that were deleted, shadows that still wait for sidecars or moves, and the number of deleted documents."""

    retired: tuple[str, ...]
    waiting: tuple[str, ...]
    documents: int


def remove_shadow(ports: WithShadows, key: str, target: str) -> Shadow:
    """Begin to remove a shadow: it receives no more changes, and leaves the routing table with the next publication."""
    name = shadow_id(key, target)
    while True:
        shadow = ports.shadows.get(name)
        if shadow.state in (ShadowState.RETIRING, ShadowState.RETIRED):
            return shadow
        after = step(ports.shadows, shadow, "remove", {"caught_up_at": None, "lag_ms": None})
        if after is not None:
            return after


def retire_shadows(ports: RetirePorts, hour: datetime | None = None) -> RetireSummary:  # noqa: ARG001
    """Delete the documents of all retiring shadows that no sidecar reads. Call it again until none waits.

    ``hour`` is ignored; every stage has it.
    """
    retired: list[str] = []
    waiting: list[str] = []
    documents = 0
    for shadow in ports.shadows.shadows((ShadowState.RETIRING,)):
        deleted = _retire(ports, shadow)
        (waiting if deleted is None else retired).append(shadow.shadow_id)
        documents += deleted or 0
    return RetireSummary(tuple(retired), tuple(waiting), documents)


def _retire(ports: RetirePorts, shadow: Shadow) -> int | None:
    """Delete one shadow. Return the number of deleted documents, or None if it must wait."""
    placement = ports.routing.placement(shadow.key)
    replica = ports.replica(shadow.target)
    if placement.primary == shadow.target:
        replica.revoke(shadow.key, shadow.lease)
        step(ports.shadows, shadow, "absorb", {"problem": "its partition became the primary"})
        return 0
    if shadow.target in placement.shadows:
        _unlist(ports, shadow)
        return None
    if ports.shadows.is_busy(shadow.key, shadow.target) or not _unread(ports, shadow):
        return None
    try:
        deleted = replica.erase(shadow.key, shadow.lease)
    except GuardsMoved:
        return None  # a move or another process has claimed the documents
    replica.purge_tombstones(datetime.now(UTC) - ports.shadow_settings.tombstone_retention)
    return deleted if step(ports.shadows, shadow, "cleaned") is not None else None


def publish_shadow(ports: ListShadowPorts, shadow_id: str) -> int:
    """Add a ready shadow to the routing table at once and make it live. Return the table's version.

    Raise :class:`ShadowRefused` if the shadow is not ready, its key has moved, or it changes meanwhile.
    """
    shadow = ports.shadows.get(shadow_id)
    if shadow.state not in CAUGHT_UP:
        raise ShadowRefused(shadow_id, f"it is {shadow.state}, not ready", "run it first")

    def edit() -> TableEdit | None:
        placement = ports.shadows.placements([shadow.key]).get(shadow.key)
        if placement is not None and placement.primary != shadow.source:
            raise ShadowRefused(shadow_id, f"its key is on {placement.primary} now", "request it again")
        if placement is not None and shadow.target in placement.shadows:
            return None
        others, listed_at = (placement.shadows, placement.epoch) if placement else ((), 0)
        epoch = listed_at or ports.routing.placement(shadow.key).epoch
        change = PlacementChange(shadow.key, shadow.source, (*others, shadow.target), listed_at, epoch, why="shadowed")
        return TableEdit([change], f"shadow {shadow_id}", lambda session, _: _go_live(ports, shadow, session))

    version = publish_edit(ports.routing, edit)
    return ports.routing.version() if version is None else version


def _go_live(ports: WithShadows, shadow: Shadow, session: object) -> None:
    if ports.shadows.change(shadow, ShadowState.LIVE, session=session) is None:
        raise ShadowRefused(shadow.shadow_id, "it has changed meanwhile", "retry")


def _unlist(ports: ListShadowPorts, shadow: Shadow) -> None:
    """Remove the shadow from the routing table, if the hour's publication has not done it. The grace period begins now."""

    def edit() -> TableEdit | None:
        placement = ports.shadows.placements([shadow.key]).get(shadow.key)
        if placement is None or shadow.target not in placement.shadows:
            return None
        others = tuple(partition for partition in placement.shadows if partition != shadow.target)
        change = PlacementChange(shadow.key, placement.primary, others, placement.epoch, placement.epoch)
        return TableEdit([change], f"remove shadow {shadow.shadow_id}")

    if publish_edit(ports.routing, edit) is not None:
        ports.shadows.change(shadow, shadow.state)


def _unread(ports: RetirePorts, shadow: Shadow) -> bool:
    """Whether every sidecar has acknowledged a table without the shadow, or the grace period is over."""
    now = datetime.now(UTC)
    acknowledged, heard = ports.routing.acknowledged(ports.routing.version(), heard_since=now - HEARD_WITHIN)
    if heard and acknowledged == heard:
        return True
    return shadow.updated_at is not None and now - shadow.updated_at > ports.shadow_settings.grace_period
