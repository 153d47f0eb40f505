"""What a sidecar answers from: the table, the partitions, the loads; and the answer itself. No I/O, no clock of its own.

Other threads install what they have read (whole, immutable values, or reports into a queue); the thread that answers owns the
load book.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from foreshard.errors import UnknownPartition
from foreshard.model import Location, Partition, PartitionLoad, RequestKind, RoutingTable
from foreshard.routing.address import public_uri
from foreshard.routing.decide import decide
from foreshard.routing.decision import CopyView, Decision, RouteRequest, Surroundings
from foreshard.routing.distance import Distances
from foreshard.routing.load_book import LoadBook, LoadRules, Pressure
from foreshard.routing.reads import FAR_KM
from foreshard.routing.table import locate
from foreshard.settings import Settings
from foreshard.sidecar.problems import NoTableYet

FILE, DATABASE = "file", "control database"


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
        self._around = Surroundings({}, Distances(()))
        self._addresses: dict[str, tuple[str, str]] = {}
        self._reports: deque[tuple[PartitionLoad, ...]] = deque()
        self._capacities: deque[dict[str, float]] = deque()

    @classmethod
    def from_settings(cls, settings: Settings) -> RouteService:
        """A service with the settings' marks, costs and limits."""
        sidecar, kinds = settings.sidecar, settings.observe.request_types
        costs = Costs(kinds["read"].weight if "read" in kinds else 1.0, kinds["write"].weight if "write" in kinds else 2.0)
        rules = LoadRules(sidecar.room_mark, sidecar.load_expiry.total_seconds(), sidecar.load_time_scale)
        return cls(rules, costs, settings.shadow.maximum_staleness.total_seconds(), sidecar.home_location)

    # what other threads install

    def install_table(self, table: RoutingTable, identity: str, source: str, confirmed_at: float) -> None:
        """Answer from ``table`` from now on."""
        self.installed = Installed(table, identity, source, confirmed_at)

    def replace_table(self, table: RoutingTable, by: RoutingTable) -> None:
        """Answer from ``by``, which says the same as ``table`` in another form; do nothing where another one is installed."""
        if self.installed is not None and self.installed.table is table:
            self.installed = replace(self.installed, table=by)

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

    def install_loads(self, loads: Iterable[PartitionLoad]) -> None:
        """Take reports in, before the next answer."""
        self._reports.append(tuple(loads))

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
        self._around = Surroundings(by_id, distances, self._caught_up_at, self.default_staleness, self.home_location)

    # what the answering thread asks

    def take_in(self, now: float) -> None:
        """Bring the load book up to date with what other threads have installed."""
        while self._capacities:
            self.book.register(self._capacities.popleft())
        while self._reports:
            self.book.report(self._reports.popleft(), now)

    def route(self, request: RouteRequest, table: RoutingTable | None = None) -> tuple[Decision, dict[str, Any]]:
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

    def _note(self, kind: RequestKind, made: Decision, table: RoutingTable, key: str, now: float) -> None:
        self.book.sent(made.partition, self.costs.write if kind is RequestKind.WRITE else self.costs.read, now)
        if made.level is not None:
            placement = locate(table, key)
            self.book.all_overloaded((placement.primary, *placement.shadows), made.level)
        if made.relieved is not None:
            self.book.relieved(made.relieved)


def _considered(copy: CopyView) -> dict[str, Any]:
    """One copy of an explanation; what is unknown is null."""
    return {
        "partition": copy.partition,
        "role": copy.role,
        "km": None if copy.km >= FAR_KM else round(copy.km, 1),
        "staleness_s": None if copy.staleness is None else round(copy.staleness, 3),
        "utilisation": None if copy.utilisation is None else round(copy.utilisation, 4),
        "reachable": copy.reachable,
        "admission": round(copy.admission, 4),
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
