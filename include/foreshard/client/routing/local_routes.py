"""Routes in process: the sidecar's decisions, made from the sidecar's files.

The table is a mapped file that the sidecar writes; the partitions' loads and the shadows' freshness are in a file beside it
(:mod:`foreshard.ports.routing_file`). Without a running sidecar both files grow old: loads then count as unknown and shadows as
too stale, so every route leads to the primary copy in the last table. That table may be stale, which is safe for writes because
of the fence.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from random import Random

from foreshard.client.routing._local_view import COPIES, View
from foreshard.client.routing.forking import renewed_after_fork
from foreshard.client.routing.pymongo_errors import KeyRefused, PartitionUnregistered, ServiceUnreachable
from foreshard.client.routing.routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import Unreachable
from foreshard.model import PartitionLoad, Placement, RequestKind
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.routing_file import LiveRouting, LiveRoutingStore, SavedRouting, TableReader
from foreshard.routing.config import SidecarConfig
from foreshard.routing.decide import decide, decide_primary
from foreshard.routing.decision import RouteDecision, RouteRequest
from foreshard.routing.homes import Homes
from foreshard.routing.keys import LONGEST_KEY, key_problem
from foreshard.routing.load_book import LoadBook
from foreshard.routing.packed import EPOCH_SHIFT
from foreshard.routing.steady import boot, steady_time
from foreshard.routing.table import locate

CHECK_EVERY = 0.05
"""Seconds between two checks whether the files have changed."""
RENEW_EVERY = 0.25
"""Seconds for which a prepared route is used, and after which the requests it served count as load."""
AVOID_SECONDS = 5.0
"""How long reads avoid a partition that this process could not reach, regardless of its reporter."""

MOST_LISTED = 100_000
"""Listed keys up to which reads over all partitions are planned from the table."""

READ, new = Operation.READ, tuple.__new__
"""Local names, for the hot path."""

log = logging.getLogger(__name__)


class LocalRoutes:
    """Routes from the sidecar's files, which are checked every ``check_every`` seconds. Thread-safe."""

    def __init__(
        self,
        file: TableReader,
        live_file: LiveRoutingStore,
        config: SidecarConfig,
        clock: Callable[[], float] = steady_time,
        random: Random | None = None,
        check_every: float = CHECK_EVERY,
    ) -> None:
        self._file, self._live_file, self._config = file, live_file, config
        self._clock, self._random = clock, random or Random()  # noqa: S311
        self._book = LoadBook(config.loads)
        self._live = LiveRouting()
        self._avoided: dict[str, float] = {}
        self._view: View | None = None
        self._homes: Homes | None = None
        self._stamps, self._check_every = (0, 0), check_every
        self._check_at = self._renew_at = float("-inf")
        self.renew()
        renewed_after_fork(self)

    def renew(self) -> None:
        """Make new locks, here and in the child of a fork."""
        self._checking, self._booking = threading.Lock(), threading.Lock()

    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        """Return where ``key`` lives. Raise :class:`Unreachable` (no table), :class:`RouteRefused` or
        :class:`UnknownPartition`."""
        if key < " " or len(key) > LONGEST_KEY // 4 or not key.isascii() or "\0" in key:
            check_key(key)
        view = self._current()
        number, target = view.read(key) if operation is READ else view.write(key)
        if target is None:
            return self._with_shadows(view, key, number, preference)
        place = (key, target.partition, target.location, target.role, number, view.version, target.reason, target.address)
        return new(Route, place)

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        """Return where many keys live."""
        return {key: self.route(key, operation, preference) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """The partitions in the file."""
        return _addresses(self._current())

    def homes(self) -> tuple[tuple[PartitionAddress, ...], Homes] | None:
        """The partitions and what lives on each; None if the table lists more than ``MOST_LISTED`` keys."""
        view = self._current()
        table = view.table
        if len(table.placements) > MOST_LISTED:
            return None
        known = self._homes
        if known is None or known.table is not table:
            known = self._homes = Homes(table)
        return _addresses(view), known

    def refresh(self) -> int:
        """Check the files now, and return the table's version. Only the sidecar can get a newer table."""
        self._check(wait=True)
        return self.version()

    def version(self) -> int:
        """The table's version; 0 without a table."""
        try:
            return self._current().version
        except Unreachable:
            return 0

    def age(self) -> float:
        """Seconds since the control database last confirmed the table, by the monotonic clock; infinite if unknown.

        Raise :class:`Unreachable` without a table.
        """
        view, clock = self._current(), self._live.clock
        if clock is None or clock.boot != boot() or view.version < clock.version:
            return math.inf
        return time.monotonic() - clock.confirmed

    def caught_up(self, key: str, partition: str) -> float | None:
        """The monotonic time up to which a shadow has all writes, at least; None if unknown."""
        caught_up_at, clock = self._live.caught_up_at.get((key, partition)), self._live.clock
        if caught_up_at is None or clock is None or clock.boot != boot():
            return None
        return caught_up_at - clock.ahead

    def applied_to(self, key: str, partition: str) -> ClusterTime | None:
        """The cluster time of its source up to which a shadow has all writes; None if unknown."""
        return self._live.applied_to.get((key, partition))

    def avoid(self, partition: str) -> None:
        """Send reads to other copies for ``AVOID_SECONDS``, where there are any."""
        with self._booking:
            self._avoided[partition] = self._clock() + AVOID_SECONDS
            self._apply_loads(self._live.loads)
        self._renew()

    def close(self) -> None:
        """Release the files."""
        self._view, self._stamps = None, (0, 0)

    def _current(self) -> View:
        if time.monotonic() >= self._check_at:
            self._check(wait=self._view is None)
        view = self._view
        if view is None:
            raise ServiceUnreachable("routing file", self._file.place, "start the sidecar, which writes it")
        return view

    def _check(self, *, wait: bool) -> None:
        """Read the files that have changed. One thread does it; the others continue with the current view."""
        if not self._checking.acquire(blocking=wait):
            return
        try:
            now = time.monotonic()
            self._check_at = now + self._check_every
            if now >= self._renew_at:
                self._renew_at = now + min(RENEW_EVERY, self._check_every * 5)
                self._renew()
            stamps = (self._file.stamp(), self._live_file.stamp())
            if stamps != self._stamps:
                self._renew()
            if stamps[1] != self._stamps[1] and stamps[1]:
                self._read_live()
            if stamps[0] != self._stamps[0]:
                self._read_table()
            elif self._view is not None and stamps[1] != self._stamps[1]:
                self._view = self._view_of(self._view.saved)
            self._stamps = stamps
        finally:
            self._checking.release()

    def _read_table(self) -> None:
        newer = self._file.newer(self._view.saved) if self._view is not None else None
        if newer is not None:
            self._view = self._view_of(newer)
            return
        saved = self._file.newest()
        if saved is None:
            return
        with self._booking:
            self._book.register({p.partition_id: p.capacity for p in saved.partitions})
            self._apply_loads(self._live.loads)
        self._view = self._view_of(saved)

    def _read_live(self) -> None:
        try:
            self._live = self._live_file.read()
        except (OSError, ValueError) as error:
            log.warning("loads and freshness beside the routing file can't be read: %s", error)
            return
        with self._booking:
            self._apply_loads(self._live.loads)

    def _view_of(self, saved: SavedRouting) -> View:
        clock = self._live.clock
        known = clock is not None and clock.boot == boot()
        ahead = clock.ahead + time.monotonic() - self._clock() if clock is not None and known else math.inf
        return View(saved, self._live, self._config, self._decide_primary, ahead)

    def _apply_loads(self, loads: Iterable[PartitionLoad]) -> None:
        """Update the load book. An avoided partition counts as unreachable."""
        now = self._clock()
        self._avoided = {name: until for name, until in self._avoided.items() if until > now}
        self._book.report([one for one in loads if one.partition_id not in self._avoided], now)
        moment = datetime.fromtimestamp(now, UTC)
        self._book.report([PartitionLoad(name, 0.0, False, moment) for name in self._avoided], now)

    def _renew(self) -> None:
        """Add the requests since the last call to the load book, then renew the prepared routes."""
        view = self._view
        if view is None:
            return
        now = self._clock()
        with self._booking:
            for name, cost in view.sent(self._config):
                self._book.sent(name, cost, now)
        view.prepared.renew()

    def _decide_primary(self, partition: str, kind: RequestKind) -> RouteDecision:
        with self._booking:
            return decide_primary(partition, kind, self._book, self._clock())

    def _with_shadows(self, view: View, key: str, value: int, preference: ReadPreference) -> Route:
        """Route a read of a key with shadows: by the choice that is prepared for its copies, or by a new decision."""
        if not value:
            return self._decided(view, locate(view.table, key), preference)
        now, copies = self._clock(), value & COPIES
        try:
            choice = view.choices[copies, preference]
        except KeyError:
            with self._booking:
                choice = view.near(view.placement(key, value), copies, preference, self._book, now)
        taken = choice.take(key, now, self._random) if choice is not None else None
        if taken is None:
            return self._decided(view, view.placement(key, value), preference)
        place = (taken.partition, taken.location, taken.role)
        return Route(key, *place, value >> EPOCH_SHIFT, view.version, taken.reason, taken.address)

    def _decided(self, view: View, placement: Placement, preference: ReadPreference) -> Route:
        request = RouteRequest(placement.key, RequestKind.READ, preference.location, preference.max_staleness)
        now = self._clock()
        with self._booking:
            decision = decide(request, placement, view.context, self._book, now, self._random)
            self._book.decided(decision, placement, self._config.read_cost, now)
        address = view.addresses.get(decision.partition)
        if address is None:
            raise PartitionUnregistered(decision.partition, tuple(view.addresses))
        place = (decision.partition, address[0], decision.role)
        return Route(placement.key, *place, decision.epoch, view.version, decision.sentence, address[1])


def _addresses(view: View) -> tuple[PartitionAddress, ...]:
    return tuple(PartitionAddress(name, location, uri) for name, (location, uri) in view.addresses.items())


def check_key(key: str) -> None:
    """Raise :class:`RouteRefused` for a key that the sidecar would refuse."""
    problem = key_problem(key)
    if problem is not None:
        raise KeyRefused(key, 400, f"the key {problem.phrase}")
