"""Every key has one owner whose server accepts its writes while all others refuse, under any sequence of moves and listings.

The fences and rows of a move change in the mover's order: the target is fenced, the source is fenced, the rows are published,
the target is opened. Moves that do not exclude each other interleave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from foreshard.model import Placement
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.model.unit_set import UnitSet, unit_set
from foreshard.move._owners import Owners
from foreshard.routing.fence_lists import FenceLists

SPACE = KeySpace(slots=4)
PARTITIONS = ("a", "b", "c")
KEYS = tuple(f"key {number}" for number in range(10))
SLOTS = tuple(map(slot_unit, range(SPACE.slots)))
BEGUN, TARGET_FENCED, FENCED, SWITCHED, OPENED = range(5)


@dataclass
class OpenMove:
    """A move, and the step that it has taken last."""

    units: UnitSet
    source: str
    target: str
    step: int = BEGUN


class Fences(RuleBasedStateMachine):
    """A routing table, one fence for each partition, and open moves."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = {unit: Placement(unit, PARTITIONS[slot_number(unit) % 3], (), 1) for unit in SLOTS}
        self.fences = {name: self.prescribed(name) for name in PARTITIONS}
        self.moves: list[OpenMove] = []

    def at(self, unit: str) -> Placement:
        row = self.rows.get(unit) or self.rows[slot_unit(SPACE.slot_of(unit))]
        return Placement(unit, row.primary, row.shadows, row.epoch)

    def is_listed(self, key: str) -> bool:
        return key in self.rows

    def prescribed(self, name: str) -> FenceLists:
        slots = frozenset(slot for slot in range(SPACE.slots) if self.rows[slot_unit(slot)].primary != name)
        keys = {key: row.primary == name for key, row in self.rows.items() if key not in SLOTS}
        here = frozenset(key for key, is_here in keys.items() if is_here and SPACE.slot_of(key) in slots)
        elsewhere = frozenset(key for key, is_here in keys.items() if not is_here and SPACE.slot_of(key) not in slots)
        return FenceLists(SPACE, slots, elsewhere, here)

    def touches(self, move: OpenMove, units: UnitSet) -> bool:
        slots = move.units.slots & units.touched_slots() or units.slots & move.units.touched_slots()
        return bool(slots or move.units.keys & units.keys)

    def is_free(self, key: str) -> bool:
        return not any(key in move.units or SPACE.slot_of(key) in move.units.slots for move in self.moves)

    @rule(wanted=st.lists(st.sampled_from(SLOTS + KEYS), min_size=1, max_size=6, unique=True), to=st.sampled_from(PARTITIONS))
    def begin(self, wanted: Sequence[str], to: str) -> None:
        source = self.at(wanted[0]).primary
        units = [unit for unit in wanted if self.at(unit).primary == source]
        moved = unit_set(units, SPACE, filter(self.is_listed, KEYS))
        if source != to and not any(self.touches(move, moved) for move in self.moves):
            self.moves.append(OpenMove(moved, source, to))

    @precondition(lambda self: self.moves)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.take_step(data.draw(st.sampled_from(self.moves)))

    def take_step(self, move: OpenMove) -> None:
        units = (move.units.units, move.units.exceptions)
        if move.step == BEGUN:
            self.fences[move.target] = self.fences[move.target].fence(*units)
        elif move.step == TARGET_FENCED:
            self.fences[move.source] = self.fences[move.source].fence(*units)
        elif move.step == FENCED:
            self.switch(move)
        elif move.step == SWITCHED:
            self.fences[move.target] = self.fences[move.target].unfence(*units)
        else:
            self.moves.remove(move)
        move.step += 1

    @precondition(lambda self: self.moves)
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        move = data.draw(st.sampled_from(self.moves))
        while move in self.moves:
            self.take_step(move)
            self.no_key_is_accepted_by_another_than_its_owner()

    @precondition(lambda self: self.moves)
    @rule(data=st.data())
    def turn_back(self, data: st.DataObject) -> None:
        move = data.draw(st.sampled_from(self.moves))
        if move.step < SWITCHED:
            self.fences[move.source] = self.fences[move.source].unfence(move.units.units, move.units.exceptions)
            self.moves.remove(move)

    def switch(self, move: OpenMove) -> None:
        touched = map(slot_unit, move.units.touched_slots())
        placements = {unit: self.at(unit) for unit in (*move.units.units, *touched)}
        listed = {key: self.rows[key] for key in KEYS if key in self.rows and SPACE.slot_of(key) in move.units.touched_slots()}
        owners = Owners(1, move.units, placements, listed)
        assert not owners.have_other_exceptions()
        for change in owners.switch_to(move.target, ""):
            assert change.expected_epoch == (self.rows[change.key].epoch if change.key in self.rows else 0)
            assert change.new_epoch > self.at(change.key).epoch
            self.rows[change.key] = Placement(change.key, change.primary, change.shadows, change.new_epoch)
            if change.delist:
                del self.rows[change.key]

    @rule(key=st.sampled_from(KEYS))
    def list_key(self, key: str) -> None:
        """A shadow or a rule lists a key where it is."""
        if self.is_free(key) and key not in self.rows:
            self.rows[key] = self.at(key)

    @rule(key=st.sampled_from(KEYS))
    def delist_key(self, key: str) -> None:
        """A key at home loses its reason to be listed."""
        if self.is_free(key) and key in self.rows and self.rows[key].primary == self.at(slot_unit(SPACE.slot_of(key))).primary:
            del self.rows[key]

    @invariant()
    def no_key_is_accepted_by_another_than_its_owner(self) -> None:
        for key in KEYS:
            accepting = [name for name in PARTITIONS if not self.fences[name].refuses(key)]
            assert accepting in ([], [self.at(key).primary])
            if not any(key in move.units and FENCED <= move.step <= SWITCHED for move in self.moves):
                assert accepting

    @invariant()
    def fences_are_what_the_table_prescribes_when_nothing_moves(self) -> None:
        if not self.moves:
            assert self.fences == {name: self.prescribed(name) for name in PARTITIONS}


TestFences = Fences.TestCase
TestFences.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
