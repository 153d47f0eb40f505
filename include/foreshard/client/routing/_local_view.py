"""One routing table in a client, with the context of its decisions and the routes prepared from it."""

from __future__ import annotations

from collections.abc import Iterator

from foreshard.client.routing.routes import ReadPreference
from foreshard.measure.distance import Distances
from foreshard.model import Placement, RequestKind
from foreshard.ports.routing_file import LiveRouting, SavedRouting
from foreshard.routing.address import public_uri
from foreshard.routing.config import SidecarConfig
from foreshard.routing.decision import RouteRequest, RoutingContext
from foreshard.routing.load_book import LoadBook
from foreshard.routing.near import NearChoice, near_choice
from foreshard.routing.packed import PRIMARY_MASK, SHADOWED
from foreshard.routing.prepared import DecidePrimary, PreparedRoutes

COPIES = PRIMARY_MASK | SHADOWED
"""The bits of a packed value that name the copies of a key."""
MOST_CHOICES = 4_096
"""Choices (set of copies, read preference) that are kept prepared. Further ones are prepared for each read."""


class View:
    """One table with its context. Immutable, except for what it prepares and counts.

    ``ahead``: how far the control database's clock is ahead of this process's, at most (seconds).
    """

    def __init__(
        self, saved: SavedRouting, live: LiveRouting, config: SidecarConfig, decide: DecidePrimary, ahead: float
    ) -> None:
        self.saved, self.table, self.version = saved, saved.table, saved.table.version
        self.addresses = {p.partition_id: (p.geographic_location, public_uri(p.uri)) for p in saved.partitions}
        self.context = RoutingContext(
            {p.partition_id: p for p in saved.partitions},
            Distances(saved.locations),
            live.caught_up_at,
            config.default_staleness,
            config.home_location,
            ahead,
        )
        self.prepared = PreparedRoutes(saved.table, decide, self.addresses)
        self.read, self.write = self.prepared.reads.route, self.prepared.writes.route
        self.placement = self.prepared.placements.base.placement
        self.choices: dict[tuple[int, ReadPreference], NearChoice | None] = {}

    def sent(self, config: SidecarConfig) -> Iterator[tuple[str, float]]:
        """Iterate over (partition, cost units) of the requests since the last call. Starts the choices again."""
        for kind, route in self.prepared.used():
            yield route.partition, config.cost(kind) * route.sent
        choices, self.choices = self.choices, {}
        for choice in choices.values():
            for copy in choice.copies if choice is not None else ():
                yield copy.partition, config.read_cost * copy.sent

    def near(
        self, placement: Placement, copies: int, preference: ReadPreference, book: LoadBook, now: float
    ) -> NearChoice | None:
        """Prepare and keep the choice for reads of keys with these copies; None if each read must be decided."""
        request = RouteRequest(placement.key, RequestKind.READ, preference.location, preference.max_staleness)
        found = near_choice(request, placement, self.context, book, now, self.addresses)
        if len(self.choices) < MOST_CHOICES:
            self.choices[copies, preference] = found
        return found
