"""The sidecar's state (table, partitions, loads) and its answers. No I/O; the clock is an argument.

Other threads install what they have read: immutable values, or load reports through a queue. Only the answering thread uses the
load book.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from foreshard.errors import UnknownPartition
from foreshard.measure.distance import Distances
from foreshard.model import Location, Partition, PartitionLoad, RequestKind, RoutingTable
from foreshard.model.key_space import KeyType
from foreshard.routing.address import public_uri
from foreshard.routing.config import SidecarConfig
from foreshard.routing.decide import decide, decide_primary
from foreshard.routing.decision import CopyView, RouteDecision, RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook, Pressure
from foreshard.routing.packed import PackedPlacements
from foreshard.routing.prepared import PreparedRoutes
from foreshard.routing.steady import steady_time
from foreshard.routing.table import locate
from foreshard.sidecar._prepared_answers import PreparedAnswers
from foreshard.sidecar._problems import NoTableYet

CLOCK_SLACK = 0.01
"""Seconds by which the estimate of a clock may change before decisions are made from the new one."""
FILE, DATABASE = "file", "control database"
PREPARED_SECONDS = 0.05
"""Seconds for which prepared routes are used before they are renewed."""
Counted = Callable[[str, str, str, int], None]
"""Counts routed keys: op, role, reason code, number."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A table, its source, and when the control database last confirmed it (seconds since 1970)."""

    table: RoutingTable
    identity: str
    source: str
    confirmed_at: float


@dataclass
class RouteService:
    """Answers where keys live. ``clock`` returns seconds since 1970."""

    config: SidecarConfig
    random: Random = field(default_factory=Random)
    clock: Callable[[], float] = steady_time

    def __post_init__(self) -> None:
        self.installed: Installed | None = None
        self.book = LoadBook(self.config.loads)
        self.connected = False
        self.partitions: tuple[Partition, ...] = ()
        self.locations: tuple[Location, ...] = ()
        self._caught_up_at: dict[tuple[str, str], float] = {}
        self._ahead = 0.0
        self._context = self._context_of(Distances(()))
        self._addresses: dict[str, tuple[str, str]] = {}
        self._reports: deque[tuple[PartitionLoad, ...]] = deque()
        self._capacities: deque[dict[str, float]] = deque()
        self.counted: Counted = lambda *_: None
        self.prepared: PreparedAnswers | None = None
        """The prepared answers while they are valid; None: call ``prepare``."""
        self._answers: PreparedAnswers | None = None
        self._prepared_for: tuple[object, object] = (None, None)
        self._changes = 0

    # called by other threads

    def install_table(self, table: RoutingTable, identity: str, source: str, confirmed_at: float) -> None:
        """Answer from ``table`` from now on."""
        self.installed = Installed(table, identity, source, confirmed_at)
        self._changed()

    def replace_table(self, table: RoutingTable, by: RoutingTable) -> None:
        """Replace ``table`` by an equal table in another form. Do nothing if another table is installed."""
        if self.installed is not None and self.installed.table is table:
            self.installed = replace(self.installed, table=by)
            self._changed()

    def confirm(self, moment: float) -> None:
        """Record that the control database confirmed the installed table at ``moment``."""
        if self.installed is not None:
            self.installed = replace(self.installed, source=DATABASE, confirmed_at=moment)

    def install_registry(self, partitions: Iterable[Partition], locations: Iterable[Location]) -> None:
        """Set the partitions and locations."""
        self.partitions, self.locations = tuple(partitions), tuple(locations)
        self._addresses = {p.partition_id: (p.geographic_location, public_uri(p.uri)) for p in self.partitions}
        self._capacities.append({p.partition_id: p.capacity for p in self.partitions})
        self._context = self._context_of(Distances(self.locations))
        self._changed()

    def install_loads(self, loads: Iterable[PartitionLoad]) -> None:
        """Queue load reports; the next answer applies them."""
        self._reports.append(tuple(loads))
        self._changed()

    def install_freshness(self, caught_up_at: Mapping[tuple[str, str], float]) -> None:
        """Set how fresh the shadows are: (key, partition) → time by the control database's clock."""
        self._caught_up_at = dict(caught_up_at)
        self._context = self._context_of(self._context.distances)

    def set_clock(self, ahead: float) -> None:
        """Set how far the control database's clock, which freshness is told by, is ahead of ``clock``, at most (seconds)."""
        if abs(ahead - self._ahead) < CLOCK_SLACK:
            return
        self._ahead = ahead + CLOCK_SLACK
        self._context = self._context_of(self._context.distances)

    def freshen(self, key: str, partition: str, caught_up_at: float | None) -> None:
        """Set how fresh one shadow is; None: it can't be used."""
        if caught_up_at is None:
            self._caught_up_at.pop((key, partition), None)
        else:
            self._caught_up_at[key, partition] = caught_up_at

    def _context_of(self, distances: Distances) -> RoutingContext:
        by_id = {p.partition_id: p for p in self.partitions}
        config = self.config
        fresh, limit = self._caught_up_at, config.default_staleness
        return RoutingContext(by_id, distances, fresh, limit, config.home_location, self._ahead)

    # called by the answering thread

    @property
    def key_type(self) -> KeyType:
        """The type of the table's keys."""
        return self.installed.table.slots.space.key_type if self.installed else KeyType.STRING

    def apply_reports(self, now: float) -> None:
        """Update the load book with what other threads have installed."""
        while self._capacities:
            self.book.register(self._capacities.popleft())
        while self._reports:
            self.book.report(self._reports.popleft(), now)

    def prepare(self) -> PreparedAnswers | None:
        """Return prepared answers for the installed table and the current loads; None without a packed table.

        Call ``expire_prepared`` every ``PREPARED_SECONDS`` while they are in use.
        """
        if self.prepared is not None:
            return self.prepared
        changes = self._changes
        self.apply_reports(self.clock())
        self.expire_prepared()
        table, addresses = self.installed.table if self.installed else None, self._addresses
        if self._prepared_for[0] is not table or self._prepared_for[1] is not addresses:
            self._prepared_for = (table, addresses)
            packed = table is not None and isinstance(table.placements, PackedPlacements)
            self._answers = (
                PreparedAnswers(PreparedRoutes(table, self._decide_primary, addresses)) if table and packed else None
            )
        self.prepared = self._answers
        if self._changes != changes:  # another thread has installed something in the meantime
            self.prepared = None
        return self._answers

    def expire_prepared(self) -> None:
        """Add the counts of the prepared answers to the load book and the figures. ``prepare`` then renews them."""
        self.prepared = None
        if self._answers is not None:
            self._count(self._answers)
            self._answers.renew()

    def done_with(self, answers: PreparedAnswers) -> None:
        """Count what was sent from prepared answers that have been replaced in the meantime."""
        if answers is not self._answers:
            self._count(answers)
            answers.renew()

    def route(self, request: RouteRequest, table: RoutingTable | None = None) -> tuple[RouteDecision, dict[str, Any]]:
        """Return the decision and the answer document. ``table``: the table to use, for several requests of one batch.

        Raise :class:`NoTableYet` or :class:`UnknownPartition`.
        """
        now = self.clock()
        if self._reports or self._capacities:
            self.apply_reports(now)
        table = table or self.table()
        placement = locate(table, request.key)
        decision = decide(request, placement, self._context, self.book, now, self.random)
        address = self._addresses.get(decision.partition)
        if address is None:
            raise UnknownPartition(decision.partition, tuple(self._addresses))
        self.book.decided(decision, placement, self.config.cost(request.kind), now)
        answer = {
            "key": request.key,
            "partition": decision.partition,
            "location": address[0],
            "role": decision.role,
            "epoch": decision.epoch,
            "table_version": table.version,
            "reason": decision.sentence,
            "reason_code": decision.code,
            "uri": address[1],
        }
        if request.explain:
            answer["listed"], answer["slot"] = request.key in table.placements, table.slots.space.slot_of(request.key)
            answer["considered"] = [_considered(copy) for copy in decision.copies]
        return decision, answer

    def table(self) -> RoutingTable:
        """The installed table. Raise :class:`NoTableYet` if there is none."""
        if self.installed is None:
            raise NoTableYet
        return self.installed.table

    def age(self) -> float:
        """Seconds since the control database last confirmed the table. Raise :class:`NoTableYet` if there is none."""
        if self.installed is None:
            raise NoTableYet
        return max(0.0, self.clock() - self.installed.confirmed_at)

    def describe_partitions(self) -> list[dict[str, Any]]:
        """Every registered partition with its load, as this sidecar sees it."""
        now = self.clock()
        self.apply_reports(now)
        return [_described(p, self.book.pressure(p.partition_id, now)) for p in self.partitions]

    def _changed(self) -> None:
        self._changes += 1
        self.prepared = None

    def _decide_primary(self, partition: str, kind: RequestKind) -> RouteDecision:
        return decide_primary(partition, kind, self.book, self.clock())

    def _count(self, answers: PreparedAnswers) -> None:
        now = self.clock()
        for kind, route in answers.used():
            self.book.sent(route.partition, self.config.cost(kind) * route.sent, now)
            self.counted(kind.value, route.role, route.code, route.sent)


def _considered(copy: CopyView) -> dict[str, Any]:
    """One copy of an explanation. Unknown figures are null."""
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
    """One partition. Unknown figures are null."""
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
