"""Verify documents at any time, while apps write and keys move: some slots, or all of them in portions that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import fields
from typing import Protocol

from foreshard.model.unit_set import UnitSet
from foreshard.ports.verification import DocumentDifference, ExpectedPlacement, Verification, VerificationProgress
from foreshard.stages._ports import (
    WithPlanning,
    WithRegistry,
    WithRouting,
    WithShardedCollections,
    WithVerificationProgress,
    WithVerifier,
)

PORTION = 500_000
"""About this many documents are read before the progress is saved."""
FIGURES = tuple(field.name for field in fields(Verification) if field.name != "differences")

Report = Callable[[DocumentDifference], None]
Progress = Callable[[int, int], None]
"""(slots verified, all slots)"""


class VerifyUnitsPorts(WithPlanning, WithRegistry, WithRouting, WithShardedCollections, WithVerifier, Protocol):
    """Reads the routing table, open moves and shadows, and the documents on every partition. Writes nothing."""


class VerifyAllPorts(VerifyUnitsPorts, WithVerificationProgress, Protocol):
    """Saves the progress, too."""


def verify_units(ports: VerifyUnitsPorts, units: Collection[str], report: Report) -> dict[str, int]:
    """Verify the slots of these units: every document once at its owner and nowhere else, and shadows equal to it.

    Copies of open moves and shadows explain themselves. Report each difference. Return the figures of a
    :class:`foreshard.ports.verification.Verification`.
    """
    slots = UnitSet(ports.routing.space(), tuple(units)).touched_slots()
    return _figures(_verify(ports, slots, report))


def verify_all(ports: VerifyAllPorts, report: Report, progress: Progress, *, resume: bool = False) -> dict[str, int]:
    """Verify all slots in portions, and save the progress after each. With ``resume``, go on where the last one stopped."""
    every, saved = ports.routing.space().slots, ports.verifications.load() if resume else None
    first, total = (saved.next_slot, dict(saved.figures)) if saved else (0, dict.fromkeys(FIGURES, 0))
    for slots in _portions(ports, first, every):
        progress(min(slots, default=0), every)
        found = _figures(_verify(ports, None if len(slots) == every else slots, report))
        total = {name: total[name] + number for name, number in found.items()}
        ports.verifications.save(VerificationProgress(slots.stop, total))
    progress(every, every)
    ports.verifications.save(None)
    return total


def _portions(ports: VerifyUnitsPorts, first: int, every: int) -> Iterator[range]:
    documents = ports.verifier.documents(ports.registry.partitions(), ports.sharded_collections)
    count = max(1, every * PORTION // max(documents, 1))
    for start in range(first, every, count):
        yield range(start, min(start + count, every))


def _verify(ports: VerifyUnitsPorts, slots: Collection[int] | None, report: Report) -> Verification:
    partitions, collections = ports.registry.partitions(), ports.sharded_collections
    found = ports.verifier.verify(partitions, collections, lambda: expected_placement(ports), slots)
    for difference in found.differences:
        report(difference)
    return found


def _figures(found: Verification) -> dict[str, int]:
    return {name: getattr(found, name) for name in FIGURES}


def expected_placement(ports: VerifyUnitsPorts) -> ExpectedPlacement:
    """Return the table and the copies in transit.

    Copies are read before and after the table, so that a move which ends in between still explains its copies.
    """
    before = ports.planning.copies_in_transit()
    table = ports.routing.current()
    return ExpectedPlacement(table, before | ports.planning.copies_in_transit())
