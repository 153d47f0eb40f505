"""The movers' own code over fake stores, run under every schedule within a bound: a stateless model checker.

Each mover is a greenlet. Before each of its port calls it hands over to the scheduler, which either lets it go on or spends one
*interruption*: an app writes, inserts or deletes by the table or by a stale one, a TTL monitor removes a document, the mover
dies and another takes over, or a second mover or cleaner runs meanwhile. Every schedule with at most ``bound`` interruptions is
run from the start. A schedule is left where another one has been before: the stores are in the same state and each mover has
been told the same, with as many interruptions left, so what follows is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import greenlet
from tests.move_proofs.actors import Actor, Observed, brief
from tests.unit.move.conftest import CutOff, World
from tests.unit.move.simulated_partition import Event, Partition, UnitCopy

from foreshard.errors import ForeshardError
from foreshard.model.move_state import ENDED, MoveState
from foreshard.move.mover import drive, run_move
from foreshard.move.session import MoveSession

PLAIN, EXPIRING, NEW = b"0", b"1", b"2"
FIRST = {PLAIN: b"first", EXPIRING: b"expired"}
"""Two documents. The TTL index removes the second one unless it was refreshed."""
MOST_CALLS = 2_000
ANY = tuple(MoveState)


class NoChance:
    """Randomness that never interferes."""

    def random(self) -> float:
        return 1.0

    def randint(self, _low: int, high: int) -> int:
        return high

    def choice(self, some: Any) -> Any:
        return some[0]


class ModelCopy(UnitCopy):
    """A partition with a TTL index."""

    def expired(self, namespace: str, documents: Any, at: Any) -> frozenset:
        return frozenset(identity for identity, raw in documents.items() if raw == FIRST[EXPIRING])

    def count(self, unexpired_at: Any = None) -> dict:
        counted = super().count()
        expired = sum(raw == FIRST[EXPIRING] for raw in self.partition.documents.values()) if unexpired_at else 0
        return {name: n - expired for name, n in counted.items()}


class Model(World):
    """One run under a schedule. ``choices`` are followed first; then every mover goes on undisturbed."""

    def __init__(
        self, choices: tuple[int, ...], bound: int, states: Collection[MoveState] = ANY, kinds: int | None = None
    ) -> None:
        super().__init__(0)
        self.states, self.kinds = states, INTERRUPTIONS[:kinds]
        self.random = NoChance()
        self.cuts_left = self.lifts_left = self.shadow_changes_left = 0
        self.partitions = {"a": Partition(dict(FIRST)), "b": Partition({b"old": b"left over"}, fenced=True, listed=True)}
        self.clock = 0
        self.allowed: dict[bytes, set[bytes | None]] = {i: {raw} for i, raw in FIRST.items()}
        self.allowed[EXPIRING].add(None)
        self.choices, self.bound, self.left = choices, bound, bound
        self.taken: list[tuple[int, int]] = []
        self.committing = False
        self.actors: list[Actor] = []
        self.trail: list[str] = []
        self.plan()

    # ── scheduling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, seen: set[int]) -> bool:
        """Run to the end and check it. Return False if the run was left at a known state."""
        current = self._begin()
        while True:
            current.greenlet.switch()
            if not current.is_alive:
                others = [actor for actor in self.actors if actor.is_alive]
                if not others:
                    break
                current = others[0]
                continue
            self.check_reads()
            chosen = self._choose(seen)
            if chosen is None:
                return False
            current = self._interrupt(chosen, current)
        if self.get("m").state not in ENDED:
            self._begin().greenlet.switch()
            return self.run_quietly()
        self.check_end()
        return True

    def run_quietly(self) -> bool:
        """Let one more mover end the move, undisturbed."""
        actor = self.actors[-1]
        while actor.is_alive:
            actor.greenlet.switch()
        self.check_end()
        return True

    def _choose(self, seen: set[int]) -> int | None:
        """Return the next choice. None: everything that follows is known."""
        place = len(self.taken)
        if place < len(self.choices):
            chosen = self.choices[place]
        else:
            state = self._digest()
            if state in seen:
                return None
            seen.add(state)
            chosen = 0
        may_interrupt = self.left > 0 and self.get("m").state in self.states
        self.taken.append((chosen, 1 + len(self.kinds) * may_interrupt))
        self.left -= chosen > 0
        return chosen

    def _interrupt(self, chosen: int, current: Actor) -> Actor:
        if chosen == 0:
            return current
        name, happen = self.kinds[chosen - 1]
        self.trail.append(f"{name} before call {current.calls} in {self.get('m').state}")
        if name == "crash":
            current.dying = True
            current.greenlet.switch()
            return self._begin()
        if name == "second mover":
            others = [actor for actor in self.actors if actor.is_alive and actor is not current]
            return others[0] if others else self._begin()
        happen(self)
        return current

    def _begin(self) -> Actor:
        actor = Actor(None)
        actor.greenlet = greenlet.greenlet(lambda: self._move(actor))
        self.actors.append(actor)
        return actor

    def _move(self, actor: Actor) -> None:
        """Take the move to its end, as the mover and then the cleaner do."""
        try:
            record = run_move(self._ports(actor), "m")
            while record.state not in ENDED:
                session = MoveSession(self._ports(actor), Observed(self, actor).take("m"))
                session.claim(session.context.source, session.context.target)
                drive(session, until=lambda record: record.state in ENDED)
                record = session.record
        except (CutOff, ForeshardError):
            return

    def _ports(self, actor: Actor) -> Any:
        context = self.context()
        own, copies = Observed(self, actor), (Observed(ModelCopy(self, name), actor) for name in ("a", "b"))
        changed = dict(zip(("source", "target"), copies, strict=True), journal=own, routing=own, shadows=own)
        return type(context)(**{**{f: getattr(context, f) for f in context.__dataclass_fields__}, **changed})

    def tick(self) -> None:
        """Before a port call: let the scheduler decide. A killed mover ends here. Inside a transaction nothing happens."""
        if self.committing:
            return
        actor = next(actor for actor in self.actors if actor.greenlet is greenlet.getcurrent())
        actor.calls += 1
        assert actor.calls < MOST_CALLS, f"a mover does not end: {self.trail}"
        actor.greenlet.parent.switch()
        if actor.dying:
            raise CutOff

    def publish(self, changes: Any, cause: str, *, within: Any = None, move_id: str = "") -> int:
        self.tick()
        self.committing = True
        try:
            version = super().publish(changes, cause, within=within, move_id=move_id)
        finally:
            self.committing = False
        self.tick()
        return version

    def _digest(self) -> int:
        partitions = tuple(
            (
                tuple(sorted(p.documents.items())),
                p.fenced,
                p.listed,
                p.marks,
                tuple(p.leases.items()),
                tuple(map(_event, p.log)),
            )
            for p in self.partitions.values()
        )
        told = tuple((actor.told, actor.calls) for actor in self.actors if actor.is_alive)
        allowed = tuple((i, tuple(sorted(map(str, values)))) for i, values in sorted(self.allowed.items()))
        return hash((partitions, told, allowed, brief(self.get("m")), self.table.primary, self.left))

    # ── what happens meanwhile ───────────────────────────────────────────────────────────────────────────────────────

    def write(self, identity: bytes, name: str) -> None:
        """An app upserts a document on a partition, unless the fence refuses it."""
        if self.partitions[name].fenced:
            return
        raw = b"written at %d" % self.now()
        self.put(name, identity, raw)
        assert name == self.table.primary, f"a write was accepted by {name}: {self.trail}"
        self.allowed[identity] = {raw}

    def delete(self, identity: bytes, name: str) -> None:
        """An app deletes a document on a partition. A delete on the old owner may lose against a write at the new one."""
        if identity not in self.partitions[name].documents:
            return
        self.remove(name, identity)
        self.allowed[identity] = {None} if name == self.table.primary else self.allowed[identity] | {None}

    def expire(self, name: str) -> None:
        """The partition's TTL monitor runs."""
        if self.partitions[name].documents.get(EXPIRING) == FIRST[EXPIRING]:
            self.remove(name, EXPIRING)

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_reads(self) -> None:
        """While the owner takes writes, a reader there sees what was acknowledged."""
        owner = self.partitions[self.table.primary]
        if not owner.fenced:
            self._check(owner)

    def _check(self, owner: Partition) -> None:
        for identity, allowed in self.allowed.items():
            found = owner.documents.get(identity)
            assert found in allowed, f"{identity!r} is {found!r}, not one of {allowed}: {self.trail}"

    def check_end(self) -> None:
        """The owner, and only it, takes writes and has the documents."""
        state, owner = self.get("m").state, self.table.primary
        assert (state, owner) in ((MoveState.DONE, "b"), (MoveState.REVERTED, "a")), f"{state}, {owner}: {self.trail}"
        other = self.partitions["a" if owner == "b" else "b"]
        assert not self.partitions[owner].fenced, f"{owner} refuses writes: {self.trail}"
        assert other.fenced, f"the other partition takes writes: {self.trail}"
        assert not set(other.documents) & set(self.allowed), f"documents on both: {other.documents}, {self.trail}"
        self._check(self.partitions[owner])


def _event(event: Event) -> tuple[Any, ...]:
    return event.kind, event.identity, event.at, event.mine


INTERRUPTIONS: tuple[tuple[str, Callable[[Model], None]], ...] = (
    ("crash", lambda model: None),
    ("second mover", lambda model: None),
    ("write 0", lambda model: model.write(PLAIN, model.table.primary)),
    ("delete 0", lambda model: model.delete(PLAIN, model.table.primary)),
    ("stale delete", lambda model: model.delete(PLAIN, model.old_table.primary)),
    ("expiry at a", lambda model: model.expire("a")),
    ("write 1", lambda model: model.write(EXPIRING, model.table.primary)),
    ("write 2", lambda model: model.write(NEW, model.table.primary)),
    ("delete 1", lambda model: model.delete(EXPIRING, model.table.primary)),
    ("stale write", lambda model: model.write(PLAIN, model.old_table.primary)),
    ("expiry at b", lambda model: model.expire("b")),
)


@dataclass
class Explored:
    """What was explored."""

    schedules: int = 0
    states: set[int] = field(default_factory=set)
    ends: dict[str, int] = field(default_factory=dict)


def explore(bound: int, states: Collection[MoveState] = ANY, kinds: int | None = None) -> Explored:
    """Run every schedule with at most ``bound`` interruptions in ``states``, of the first ``kinds``, depth first."""
    explored, stack = Explored(), [()]
    while stack:
        prefix = stack.pop()
        model = Model(prefix, bound, states, kinds)
        explored.schedules += 1
        if model.run(explored.states):
            end = str(model.get("m").state)
            explored.ends[end] = explored.ends.get(end, 0) + 1
        for place in range(len(prefix), len(model.taken)):
            before = tuple(chosen for chosen, _ in model.taken[:place])
            stack += [(*before, other) for other in range(1, model.taken[place][1])]
    return explored
