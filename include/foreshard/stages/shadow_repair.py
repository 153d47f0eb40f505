"""Anti-entropy: compare a shadow with its primary copy, and copy again what differs."""

from __future__ import annotations

import time
from dataclasses import dataclass

from foreshard.consistency.versions import version_of_write
from foreshard.errors import VerificationFailed
from foreshard.model.shadow_state import WANTED
from foreshard.ports.replication import Shadow
from foreshard.shadow.copying import Copier, Differences, DocumentsById
from foreshard.stages.shadow_apply import POLL, CatchUpMarks, ShadowFeedPorts, caught_up, replicating

LOOKS = 5
"""A document that still changes after this many comparisons counts as being replicated, not as different."""


@dataclass(frozen=True, slots=True)
class RepairSummary:
    """The documents of a shadow that differed from the primary copy's, and how many were copied again."""

    shadow_id: str
    different: int
    repaired: int


def repair_shadow(ports: ShadowFeedPorts, shadow_id: str, write: bool = True) -> RepairSummary:
    """Compare all documents with the primary copy, and copy the lasting differences if ``write``.

    A document that only waits for replication is not a difference. Raise :class:`VerificationFailed` if the shadow does not
    catch up.
    """
    with replicating(ports):
        shadow, copier, remaining = _lasting_differences(ports, shadow_id)
        repaired = 0
        if write and len(remaining):
            floor = version_of_write(shadow.source, shadow.epoch, *ports.documents(shadow.source).tick())
            repaired = copier.repair(floor, remaining)
    return RepairSummary(shadow_id, len(remaining), repaired)


def shadow_differences(ports: ShadowFeedPorts, shadow_id: str) -> tuple[str, ...]:
    """Return the lasting differences between a shadow and its primary copy, each as ``namespace: id``."""
    with replicating(ports):
        _, _, remaining = _lasting_differences(ports, shadow_id)
    return tuple(f"{namespace}: {i!r}" for namespace, found in remaining.by_namespace.items() for i, _ in found.values())


def _lasting_differences(ports: ShadowFeedPorts, shadow_id: str) -> tuple[Shadow, Copier, Differences]:
    shadow = _wait_fresh(ports, shadow_id)
    copier = Copier(
        shadow, ports.documents(shadow.source), ports.documents(shadow.target), ports.replica(shadow.target),
        ports.sharded_collections, ports.conflicts, ports.shadow_settings.batch_documents,
    )  # fmt: skip
    lasting: dict[str, DocumentsById] = {}
    moving = copier.differences()
    for _ in range(LOOKS):
        if not len(moving):
            break
        _wait_fresh(ports, shadow_id)
        stayed, moving = copier.sort_out(moving)
        for namespace, documents in stayed.by_namespace.items():
            lasting[namespace] = {**lasting.get(namespace, {}), **documents}
    return shadow, copier, Differences(lasting)


def _wait_fresh(ports: ShadowFeedPorts, shadow_id: str) -> Shadow:
    """Wait until the shadow has every write that its primary copy has acknowledged by now."""
    deadline = time.monotonic() + ports.shadow_settings.apply_timeout.total_seconds()
    marks: CatchUpMarks = {}
    while True:
        shadow = ports.shadows.get(shadow_id)
        if caught_up(ports, [shadow], marks):
            return shadow
        if shadow.state not in WANTED or time.monotonic() > deadline:
            raise VerificationFailed(f"shadow {shadow_id}", [shadow.problem or f"it is {shadow.state} and does not catch up"])
        time.sleep(POLL)
