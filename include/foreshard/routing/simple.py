"""The simple decisions, prepared: writes, and reads of keys that have one copy. Pure.

They depend only on the key's primary partition. So everything except the key and its epoch is computed once per partition and
kind (a :class:`RouteTarget`), and again when the partition's load changes the reason. :mod:`foreshard.routing.decide` decides
reads of keys with shadows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from foreshard.model import DefaultRule, Placement, RequestKind, RoutingTable
from foreshard.routing.decision import RouteDecision
from foreshard.routing.packed import EPOCH_SHIFT, PRIMARY_MASK, SHADOWED, PackedPlacements, encoded
from foreshard.routing.table import UNLISTED_EPOCH, default_partition

MOST_TAILS = 4_096


class RouteTarget:
    """Where requests of one kind go whose key's primary is on one partition; ``sent`` counts them.

    ``before`` and ``behind`` are the parts of a written answer that stand around the epoch.
    """

    __slots__ = ("address", "before", "behind", "code", "location", "partition", "reason", "role", "sent", "version")

    def __init__(
        self, decision: RouteDecision, location: str, address: str, version: int, before: bytes = b"", behind: bytes = b""
    ) -> None:
        self.partition, self.role, self.code, self.reason = decision.partition, decision.role, decision.code, decision.sentence
        self.location, self.address, self.version = location, address, version
        self.before, self.behind = before, behind
        self.sent = 0


Found = tuple[int, RouteTarget]
"""A key's epoch and its target."""


class Routed(NamedTuple):
    """One key's answer: its epoch, and the target that it shares with many others."""

    key: str
    epoch: int
    target: RouteTarget


DecideSimple = Callable[[str, RequestKind], RouteDecision]
"""Decides for a key whose only copy is on a partition."""
Prepare = Callable[[str, RouteDecision], RouteTarget]
"""Makes the target of a decision; raises where the partition is unknown."""


class SimpleRoutes:
    """Routes by one packed table: ``write`` and ``read`` a key; None where it has shadows.

    ``writes`` and ``reads`` are the same as the written parts of answers, for who looks keys up alone.
    """

    def __init__(self, table: RoutingTable, placements: PackedPlacements, decide: DecideSimple, prepare: Prepare) -> None:
        made = (Targets(kind, table.default_rule, placements, decide, prepare) for kind in RequestKind)
        self._targets = {targets.kind: targets for targets in made}
        writes, reads = self._targets[RequestKind.WRITE], self._targets[RequestKind.READ]
        self.placements, self.writes, self.reads = placements, Written(writes), Written(reads)
        self.write, self.read = _by_text(writes), _by_text(reads)

    def used(self) -> Iterator[tuple[RequestKind, RouteTarget]]:
        """Every target that requests were sent to since the last call to ``renew``."""
        self.writes.count()
        self.reads.count()
        for kind, targets in self._targets.items():
            for target in targets.named.values():
                if target.sent:
                    yield kind, target

    def renew(self) -> None:
        """Count anew; keep the targets that were used and whose decisions stand, and forget the others."""
        for targets in self._targets.values():
            targets.renew()
        self.writes.forget()
        self.reads.forget()


class Tail:
    """What stands behind the key in an answer; ``sent`` counts how often it was sent."""

    __slots__ = ("sent", "size", "target", "text")

    def __init__(self, epoch: int, target: RouteTarget) -> None:
        self.text = b"%b%d%b" % (target.before, epoch, target.behind)
        self.size, self.target, self.sent = len(self.text), target, 0


class Written(dict[int, Tail | None]):
    """The tails of answers, by the value in the packed table: they are few, since many keys share their partition and epoch.

    None where the request has a choice. Whoever sends one raises its ``sent``.
    """

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        self._targets = targets
        self._others: dict[tuple[int, str], Tail] = {}

    def __missing__(self, value: int) -> Tail | None:
        targets = self._targets
        if len(self) >= MOST_TAILS:
            self.count()
            self.clear()
        tail = None if value & targets.choice else Tail(value >> EPOCH_SHIFT, targets.at(value & PRIMARY_MASK))
        self[value] = tail
        return tail

    def elsewhere(self, key: str, row: Placement | None) -> Tail | None:
        """The tail for a key whose placement is not in the packed table."""
        found = self._targets.elsewhere(key, row)
        if found is None:
            return None
        name = (found[0], found[1].partition)
        tail = self._others.get(name)
        if tail is None:
            if len(self._others) >= MOST_TAILS:
                self.count()
                self._others.clear()
            tail = self._others[name] = Tail(*found)
        return tail

    def count(self) -> None:
        """Hand on to the targets how often each was used."""
        for tail in (*self.values(), *self._others.values()):
            if tail is not None and tail.sent:
                tail.target.sent += tail.sent
                tail.sent = 0

    def forget(self) -> None:
        """Make them anew when they are next needed."""
        self.clear()
        self._others.clear()


class Targets:
    """The targets of one kind that have been prepared, by the partition's name and by its number in the packed table."""

    def __init__(
        self, kind: RequestKind, rule: DefaultRule, placements: PackedPlacements, decide: DecideSimple, prepare: Prepare
    ) -> None:
        self.kind, self.rule, self.placements = kind, rule, placements
        self._decide, self._prepare = decide, prepare
        self.named: dict[str, RouteTarget] = {}
        self.numbered: list[RouteTarget | None] = [None] * len(placements.base.names)
        self.choice = SHADOWED if kind is RequestKind.READ else 0
        """The bits of a value that make a request one that has a choice."""

    def renew(self) -> None:
        """The lookups hold the list, so that it stays the same one."""
        standing = {name: target for name, target in self.named.items() if target.sent and self._stands(target)}
        self.named = standing
        self.numbered[:] = [standing.get(name) for name in self.placements.base.names]
        for target in standing.values():
            target.sent = 0

    def of(self, name: str) -> RouteTarget:
        """The target of a partition."""
        found = self.named.get(name)
        if found is None:
            found = self.named[name] = self._prepare(name, self._decide(name, self.kind))
        return found

    def at(self, number: int) -> RouteTarget:
        """The target of a partition by its number."""
        found = self.numbered[number] = self.of(self.placements.base.names[number])
        return found

    def elsewhere(self, key: str, row: Placement | None) -> Found | None:
        """The epoch and the target of a key whose placement is not in the packed table; None where it has shadows."""
        if row is None:
            return UNLISTED_EPOCH, self.of(default_partition(self.rule, key))
        return None if self.choice and row.shadows else (row.epoch, self.of(row.primary))

    def _stands(self, target: RouteTarget) -> bool:
        made = self._decide(target.partition, self.kind)
        return made.sentence == target.reason and made.code == target.code


def _by_text(targets: Targets) -> Callable[[str], Routed | None]:
    """The lookup of a key, written out in one function: a call costs as much as the half of it."""
    base, changed, numbered = targets.placements.base, targets.placements.changed, targets.numbered
    slots, homes, seed, choice = base.slots, base.homes, base.seed, targets.choice
    new, digest_of = tuple.__new__, xxh3_64_intdigest

    def route(key: str) -> Routed | None:
        if changed and (row := changed.get(key)) is not None:
            return _named(key, targets.elsewhere(key, row))
        try:
            digest = digest_of(key.encode(), seed)
        except UnicodeEncodeError:
            digest = digest_of(encoded(key), seed)
        at = (digest * homes >> 64) * 2
        while (found := slots[at]) < digest:
            at += 2
        if found != digest or not (value := slots[at + 1]):
            return _named(key, targets.elsewhere(key, None))
        if value & choice:
            return None
        target = numbered[value & PRIMARY_MASK] or targets.at(value & PRIMARY_MASK)
        target.sent += 1
        return new(Routed, (key, value >> EPOCH_SHIFT, target))

    return route


def _named(key: str, found: Found | None) -> Routed | None:
    if found is None:
        return None
    found[1].sent += 1
    return Routed(key, *found)


def simple_routes(table: RoutingTable, decide: DecideSimple, prepare: Prepare) -> SimpleRoutes | None:
    """The prepared decisions of a table; None unless it is packed."""
    placements = table.placements
    return SimpleRoutes(table, placements, decide, prepare) if isinstance(placements, PackedPlacements) else None
