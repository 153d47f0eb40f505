"""The expectations of the gate ``table`` on its changes: no epoch falls, and publications and moves explain every change.

A fallen epoch is final: clients and sidecars take the newer of two placements by it. A row that was changed by hand can be
right, so a person can accept it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from foreshard.model import Placement, RoutingTable
from foreshard.model.key_space import slot_number, unit_label
from foreshard.quality._suite import Expectation, Suite, between, final, of_values
from foreshard.quality.changes import PublishedChange

MOST_SHOWN = 20
"""Findings of one kind that have a line each. The last line counts the rest."""


def suites(table: RoutingTable, changes: Sequence[PublishedChange]) -> tuple[Suite, ...]:
    """Return the suites ``epochs`` and ``changes`` of the publications up to the table's version."""
    read = _Read()
    for one in changes:
        if one.version <= table.version:
            read.add(one)
    read.compare(table)
    differences = (
        *_lines("moved", read.unmoved, "every unit that changed its partition was moved there"),
        *_lines("rewritten", read.rewritten, "every row is what its last publication says"),
    )
    epochs = of_values("epochs", _lines("fallen", read.fallen, "no epoch falls, and each move raises it"))
    return final(epochs), of_values("changes", differences)


@dataclass
class _Read:
    """What publications say about each unit, and what contradicts them: a line by unit."""

    last: dict[str, PublishedChange] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    fallen: dict[str, str] = field(default_factory=dict)
    unmoved: dict[str, str] = field(default_factory=dict)
    rewritten: dict[str, str] = field(default_factory=dict)

    def add(self, one: PublishedChange) -> None:
        change, before, version = one.change, one.before, one.version
        unit = change.key
        known = before is not None or not change.expected_epoch
        if unit in self.last and known and not _alike(before, _after(self.last[unit])):
            self.rewritten[unit] = self._line(unit, before, f"before version {version}")
        epoch = max(self.epochs.get(unit, 0), before.epoch if before else 0)
        moved = before is not None and before.primary != change.primary
        if change.new_epoch < epoch or (moved and change.new_epoch == epoch):
            what = "stays at" if change.new_epoch == epoch else f"falls from {epoch} to"
            self.fallen[unit] = f"the epoch of {unit_label(unit)} {what} {change.new_epoch} in version {version}"
        if before is not None and moved and one.moved_to != change.primary:
            went = f"went from {before.primary} to {change.primary} in version {version}"
            self.unmoved[unit] = f"{unit_label(unit)} {went}, but no move took it there"
        self.last[unit], self.epochs[unit] = one, max(epoch, change.new_epoch)

    def compare(self, table: RoutingTable) -> None:
        """Compare the table's rows with what was published last. A listed key without a row is another gate's finding."""
        for unit, one in self.last.items():
            row, wanted = _row(table, unit), _after(one)
            if row is not None and not _alike(row, wanted):
                self.rewritten[unit] = self._line(unit, row, "now")
            if row is not None and row.epoch < self.epochs[unit]:
                line = f"the epoch of {unit_label(unit)} is {row.epoch}, but was {self.epochs[unit]}"
                self.fallen.setdefault(unit, line)

    def _line(self, unit: str, row: Placement | None, when: str) -> str:
        one = self.last[unit]
        said = f"version {one.version} says {_shown(_after(one))}"
        return f"{unit_label(unit)} was {_shown(row)} {when}, but {said}; no publication explains it"


def _row(table: RoutingTable, unit: str) -> Placement | None:
    slot = slot_number(unit)
    if slot is None:
        return table.placements.get(unit)
    return table.slots.placements[slot] if slot < len(table.slots.placements) else None


def _after(one: PublishedChange) -> Placement | None:
    change = one.change
    return None if change.delist else Placement(change.key, change.primary, change.shadows, change.new_epoch)


def _alike(one: Placement | None, other: Placement | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.primary, one.epoch, set(one.shadows)) == (other.primary, other.epoch, set(other.shadows))


def _shown(placement: Placement | None) -> str:
    if placement is None:
        return "not listed"
    shadows = f", shadows {', '.join(sorted(placement.shadows))}" if placement.shadows else ""
    return f"on {placement.primary} (epoch {placement.epoch}{shadows})"


def _lines(name: str, found: Mapping[str, str], claim: str) -> list[tuple[float, Expectation]]:
    """Return one failing expectation for each line, or one that passes."""
    lines: Iterable[str] = [found[unit] for unit in sorted(found)]
    shown = [*lines][:MOST_SHOWN]
    rest = len(found) - len(shown)
    shown += [f"and {rest:,} more units: {claim}"] if rest else []
    made = [(1.0, between(f"{name}_{place}", 0, 0, claim, line)) for place, line in enumerate(shown)]
    return made or [(0.0, between(name, 0, 0, claim, claim))]
