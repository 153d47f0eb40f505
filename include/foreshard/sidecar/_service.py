"""What a sidecar answers from: the table, the partitions, the loads; and the answer itself. No I/O, no clock of its own.

Other threads install what they have read (whole, immutable values, or reports into a queue); the thread that answers owns the
load book.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from foreshard.errors import UnknownPartition
from foreshard.measure.distance import Distances
from foreshard.model import Location, Partition, PartitionLoad, Placement, RequestKind, RoutingTable
from foreshard.routing.address import public_uri
from foreshard.routing.decide import decide
from foreshard.routing.decision import CopyView, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook, LoadRules, Pressure
from foreshard.routing.simple import RouteTarget, SimpleRoutes, simple_routes
from foreshard.routing.table import locate
from foreshard.sidecar._problems import NoTableYet
from foreshard.sidecar.essentials import Essentials

FILE, DATABASE = "file", "control database"
PREPARED_SECONDS = 0.05
"""How long the figures behind a prepared decision stand."""
Counted = Callable[[str, str, str, int], None]
"""Counts routed keys: op, role, reason, how many."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One table, where it came from, and when the control database last agreed (seconds since 1970)."""

    table: RoutingTable
    identity: str
    source: str
    confirmed_at: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What a request of each kind is taken to cost its partition, in cost units."""

    read: float = 1.0
    write: float = 2.0


@dataclass
class RouteService:
    """Answers where keys live. ``clock`` gives seconds since 1970."""

    rules: LoadRules = field(default_factory=LoadRules)
    costs: Costs = field(default_factory=Costs)
    default_staleness: float = 10.0
    home_location: str | None = None
    random: Random = field(default_factory=Random)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.installed: Installed | None = None
        self.book = LoadBook(self.rules)
        self.connected = False
        self.partitions: tuple[Partition, ...] = ()
        self.locations: tuple[Location, ...] = ()
        self._caught_up_at: dict[tuple[str, str], float] = {}
        self._around = RoutingContext({}, Distances(()))
        self._addresses: dict[str, tuple[str, str]] = {}
        self._reports: deque[tuple[PartitionLoad, ...]] = deque()
        self._capacities: deque[dict[str, float]] = deque()
        self.counted: Counted = lambda *_: None
        self.prepared: SimpleRoutes | None = None
        """The prepared decisions while they stand; None: ask ``simple``."""
        self._simple: SimpleRoutes | None = None
        self._prepared_for: tuple[object, object] = (None, None)
        self._changes = 0

    @classmethod
    def of(cls, said: Essentials) -> RouteService:
        """A service with the settings' marks, costs and limits."""
        rules = LoadRules(said.room_mark, said.load_expiry, said.load_time_scale)
        return cls(rules, Costs(said.read_cost, said.write_cost), said.default_staleness, said.home_location)

    # what other threads install

    def install_table(self, table: RoutingTable, identity: str, source: str, confirmed_at: float) -> None:
        """Answer from ``table`` from now on."""
        self.installed = Installed(table, identity, source, confirmed_at)
        self._changed()

    def replace_table(self, table: RoutingTable, by: RoutingTable) -> None:
        """Answer from ``by``, which says the same as ``table`` in another form; do nothing where another one is installed."""
        if self.installed is not None and self.installed.table is table:
            self.installed = replace(self.installed, table=by)
            self._changed()

    def confirm(self, moment: float) -> None:
        """Note that the control database agreed with the installed table at ``moment``."""
        if self.installed is not None:
            self.installed = replace(self.installed, source=DATABASE, confirmed_at=moment)

    def install_registry(self, partitions: Iterable[Partition], locations: Iterable[Location]) -> None:
        """Know these partitions and locations."""
        self.partitions, self.locations = tuple(partitions), tuple(locations)
        self._addresses = {p.partition_id: (p.geographic_location, public_uri(p.uri)) for p in self.partitions}
        self._capacities.append({p.partition_id: p.capacity for p in self.partitions})
        self._surround(Distances(self.locations))
        self._changed()

    def install_loads(self, loads: Iterable[PartitionLoad]) -> None:
        """Take reports in, before the next answer."""
        self._reports.append(tuple(loads))
        self._changed()

    def install_freshness(self, caught_up_at: Mapping[tuple[str, str], float]) -> None:
        """Know how fresh the shadows are: (key, partition) → seconds since 1970."""
        self._caught_up_at = dict(caught_up_at)
        self._surround(self._around.distances)

    def freshen(self, key: str, partition: str, caught_up_at: float | None) -> None:
        """Know how fresh one shadow is; None: it is not usable."""
        if caught_up_at is None:
            self._caught_up_at.pop((key, partition), None)
        else:
            self._caught_up_at[key, partition] = caught_up_at

    def _surround(self, distances: Distances) -> None:
        by_id = {p.partition_id: p for p in self.partitions}
        self._around = RoutingContext(by_id, distances, self._caught_up_at, self.default_staleness, self.home_location)

    # what the answering thread asks

    def take_in(self, now: float) -> None:
        """Bring the load book up to date with what other threads have installed."""
        while self._capacities:
            self.book.register(self._capacities.popleft())
        while self._reports:
            self.book.report(self._reports.popleft(), now)

    def simple(self) -> SimpleRoutes | None:
        """The decisions that need no comparing, prepared for the installed table and the loads of this moment.

        None without a packed table. Call ``settle`` every ``PREPARED_SECONDS`` while they are used.
        """
        if self.prepared is not None:
            return self.prepared
        changes = self._changes
        self.take_in(self.clock())
        self.settle()
        installed, addresses = self.installed, self._addresses
        table = installed.table if installed else None
        if self._prepared_for[0] is not table or self._prepared_for[1] is not addresses:
            self._prepared_for = (table, addresses)
            self._simple = self._simple_of(table, addresses)
        self.prepared = self._simple
        if self._changes != changes:  # another thread has installed something meanwhile
            self.prepared = None
        return self._simple

    def settle(self) -> None:
        """Take what the prepared decisions have sent into the load book and the figures; they have to be asked for anew."""
        self.prepared = None
        if self._simple is not None:
            self._count(self._simple)
            self._simple.renew()

    def _changed(self) -> None:
        self._changes += 1
        self.prepared = None

    def done_with(self, simple: SimpleRoutes) -> None:
        """Count what decisions have sent that were used after others took their place."""
        if simple is not self._simple:
            self._count(simple)
            simple.renew()

    def _count(self, simple: SimpleRoutes) -> None:
        now = self.clock()
        for kind, target in simple.used():
            cost = self.costs.write if kind is RequestKind.WRITE else self.costs.read
            self.book.sent(target.partition, cost * target.sent, now)
            self.counted(kind.value, target.role, target.code, target.sent)

    def _simple_of(self, table: RoutingTable | None, addresses: Mapping[str, tuple[str, str]]) -> SimpleRoutes | None:
        if table is None:
            return None
        version = table.version
        return simple_routes(table, self._only, lambda name, made: _target(name, made, version, addresses))

    def _only(self, name: str, kind: RequestKind) -> RouteDecision:
        """The decision for a key whose only copy is on a partition."""
        return decide(RouteRequest("", kind), Placement("", name), self._around, self.book, self.clock(), self.random)

    def route(self, request: RouteRequest, table: RoutingTable | None = None) -> tuple[RouteDecision, dict[str, Any]]:
        """Decide and return the answer as well; ``table``: one that several requests share.

        Raise :class:`NoTableYet` or :class:`UnknownPartition`.
        """
        now = self.clock()
        if self._reports or self._capacities:
            self.take_in(now)
        table = table or self.table()
        made = decide(request, locate(table, request.key), self._around, self.book, now, self.random)
        address = self._addresses.get(made.partition)
        if address is None:
            raise UnknownPartition(made.partition, tuple(self._addresses))
        self._note(request.kind, made, table, request.key, now)
        answer = {
            "key": request.key,
            "partition": made.partition,
            "location": address[0],
            "role": made.role,
            "epoch": made.epoch,
            "table_version": table.version,
            "reason": made.sentence,
            "reason_code": made.code,
            "uri": address[1],
        }
        if request.explain:
            answer["considered"] = [_considered(copy) for copy in made.copies]
        return made, answer

    def table(self) -> RoutingTable:
        """The installed table; raise :class:`NoTableYet`."""
        if self.installed is None:
            raise NoTableYet
        return self.installed.table

    def describe_partitions(self) -> list[dict[str, Any]]:
        """Every registered partition, as this sidecar sees it."""
        now = self.clock()
        self.take_in(now)
        return [_described(p, self.book.pressure(p.partition_id, now)) for p in self.partitions]

    def _note(self, kind: RequestKind, made: RouteDecision, table: RoutingTable, key: str, now: float) -> None:
        self.book.sent(made.partition, self.costs.write if kind is RequestKind.WRITE else self.costs.read, now)
        if made.level is not None:
            placement = locate(table, key)
            self.book.all_overloaded((placement.primary, *placement.shadows), made.level)
        if made.relieved is not None:
            self.book.relieved(made.relieved)


def _target(name: str, made: RouteDecision, version: int, addresses: Mapping[str, tuple[str, str]]) -> RouteTarget:
    """A prepared answer: everything but the key and the epoch, in the order of :meth:`RouteService.route`."""
    address = addresses.get(name)
    if address is None:
        raise UnknownPartition(name, tuple(addresses))
    where = {"partition": name, "location": address[0], "role": made.role}
    why = {"table_version": version, "reason": made.sentence, "reason_code": made.code, "uri": address[1]}
    before, behind = (json.dumps(part, separators=(",", ":"))[1:-1] for part in (where, why))
    return RouteTarget(made, *address, version, f'",{before},"epoch":'.encode(), f",{behind}}}".encode())


def _considered(copy: CopyView) -> dict[str, Any]:
    """One copy of an explanation; what is unknown is null."""
    return {
        "partition": copy.partition,
        "role": copy.role,
        "km": None if copy.km is None else round(copy.km, 1),
        "round_trip_ms": None if copy.km is None and not copy.measured else round(copy.ms, 3),
        "measured": copy.measured,
        "staleness_s": None if copy.staleness is None else round(copy.staleness, 3),
        "utilisation": None if copy.utilisation is None else round(copy.utilisation, 4),
        "reachable": copy.reachable,
        "admission": round(copy.admission, 4),
        "latency_ms": None if copy.latency_ms is None else round(copy.latency_ms, 3),
        "cost_ms": round(copy.cost, 3),
        "verdict": copy.verdict,
    }


def _described(partition: Partition, at: Pressure) -> dict[str, Any]:
    """One partition; what is unknown is null."""
    return {
        "partition": partition.partition_id,
        "location": partition.geographic_location,
        "uri": public_uri(partition.uri),
        "state": partition.state.value,
        "capacity": partition.capacity,
        "utilisation": None if at.utilisation is None else round(at.utilisation, 4),
        "reachable": at.reachable,
        "admission": round(at.admission, 4),
        "load_age_seconds": None if at.age is None else round(at.age, 3),
    }
