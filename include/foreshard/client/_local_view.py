"""One routing table as a client sees it, with what surrounds it and what was prepared of its decisions."""

from __future__ import annotations

from collections.abc import Iterator

from foreshard.client._local_rules import LocalRules
from foreshard.client._routes import ReadPreference
from foreshard.measure.distance import Distances
from foreshard.model import Placement, RequestKind
from foreshard.routing.address import public_uri
from foreshard.routing.decision import RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook
from foreshard.routing.near import NearChoice, near_choice
from foreshard.routing.packed import PackedPlacements
from foreshard.stores.files.live_routing import LiveRouting
from foreshard.stores.files.routing_file import SavedRouting

MOST_CHOICES = 4_096
"""Sets of copies, and wishes for them, that are prepared; reads of more are decided one by one."""


class CountedRoute:
    """Where requests of one kind go whose key has its one usable copy on one partition; ``sent`` counts them."""

    __slots__ = ("location", "reason", "sent", "uri")

    def __init__(self, location: str, uri: str, reason: str) -> None:
        self.location, self.uri, self.reason, self.sent = location, uri, reason, 0


class View:
    """One table with what surrounds it; replaced as a whole."""

    def __init__(self, saved: SavedRouting, live: LiveRouting, rules: LocalRules) -> None:
        self.saved, self.table, self.version = saved, saved.table, saved.table.version
        self.addresses = {p.partition_id: (p.geographic_location, public_uri(p.uri)) for p in saved.partitions}
        self.around = RoutingContext(
            {p.partition_id: p for p in saved.partitions},
            Distances(saved.locations),
            live.caught_up_at,
            rules.default_staleness,
            rules.home_location,
        )
        placements = saved.table.placements
        packed = placements if isinstance(placements, PackedPlacements) else None
        self.find = packed.find if packed is not None else None
        self.placement = packed.base.placement if packed is not None else _unpacked
        self.changed = packed.changed if packed is not None else {}
        self.names = packed.base.names if packed is not None else ()
        self.reads: dict[str, CountedRoute] = {}
        self.writes: dict[str, CountedRoute] = {}
        self.choices: dict[tuple[int, ReadPreference], NearChoice | None] = {}

    def sent(self, read_cost: float, write_cost: float) -> Iterator[tuple[str, float]]:
        """What was sent where by what was prepared, in cost units; all of that is forgotten and prepared anew."""
        reads, self.reads, writes, self.writes, choices, self.choices = self.reads, {}, self.writes, {}, self.choices, {}
        for targets, cost in ((reads, read_cost), (writes, write_cost)):
            yield from ((name, cost * target.sent) for name, target in targets.items())
        for choice in choices.values():
            for copy in choice.copies if choice is not None else ():
                yield copy.partition, read_cost * copy.sent

    def near(self, placement: Placement, copies: int, wish: ReadPreference, book: LoadBook, now: float) -> NearChoice | None:
        """The prepared choice for reads of keys with these copies, and keep it; None where each read has to be decided."""
        request = RouteRequest(placement.key, RequestKind.READ, wish.location, wish.max_staleness)
        found = near_choice(request, placement, self.around, book, now, self.addresses)
        if len(self.choices) < MOST_CHOICES:
            self.choices[copies, wish] = found
        return found


def _unpacked(key: str, value: int) -> Placement:
    raise AssertionError((key, value))  # only packed tables have values
