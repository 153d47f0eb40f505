"""Routing in process: the sidecar's decision, from the sidecar's own files, without asking it.

The table is the mapped file that the sidecar keeps (:mod:`foreshard.stores.files.routing_file`). The partitions' loads and the
shadows' freshness are in a file beside it (:mod:`foreshard.stores.files.live_routing`). Without the sidecar, both grow old:
loads count as unknown, shadows as too stale, and every route leads to the primary copy by the last table. That table may be
stale, which is safe for writes because of the fence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from foreshard.client._local_rules import LONGEST_KEY, LocalRules, check_key
from foreshard.client._local_view import CountedRoute, View
from foreshard.client._routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import CorruptRoutingFile, UnknownPartition, Unreachable
from foreshard.model import PartitionLoad, Placement, RequestKind
from foreshard.routing.decide import decide
from foreshard.routing.decision import RouteDecision, RouteRequest
from foreshard.routing.load_book import LoadBook
from foreshard.routing.packed import EPOCH_SHIFT, PRIMARY_MASK, SHADOWED, PackedPlacements
from foreshard.routing.table import locate
from foreshard.stores.files.live_routing import LiveRouting, LiveRoutingFile
from foreshard.stores.files.routing_file import (
    FILES,
    RoutingFile,
    SavedRouting,
    name_of,
    overlay_of,
    read_routing,
    routing_of,
    stamp,
)
from foreshard.stores.files.routing_overlay import read_overlay

LOOK_EVERY = 0.05
"""Seconds between two looks at the files."""
RENEW_EVERY = 0.25
"""Seconds for which a prepared reason stands, and until what was sent counts as load."""
AVOID_SECONDS = 5.0
"""How long reads leave a partition that this process could not reach, whatever its reporter says."""

COPIES = PRIMARY_MASK | SHADOWED
"""The bits of a value that say where a key's copies stand."""

log = logging.getLogger(__name__)


class LocalRoutes:
    """Routes from the files in ``folder``, looked at every ``look_every`` seconds; safe to use from several threads."""

    def __init__(
        self,
        folder: Path,
        rules: LocalRules | None = None,
        clock: Callable[[], float] = time.time,
        random: Random | None = None,
        look_every: float = LOOK_EVERY,
    ) -> None:
        rules = rules or LocalRules()
        self._folder, self._rules, self._clock, self._random = folder, rules, clock, random or Random()  # noqa: S311
        self._live_file = LiveRoutingFile(folder)
        self._book = LoadBook(rules.loads)
        self._live = LiveRouting()
        self._avoided: dict[str, float] = {}
        self._view: View | None = None
        self._stamps, self._look_every = (0, 0), look_every
        self._look_at = self._renew_at = float("-inf")
        self._looking, self._booking = threading.Lock(), threading.Lock()

    def route(self, key: str, operation: Operation, wish: ReadPreference) -> Route:
        """Where ``key`` lives; raise :class:`Unreachable` (no table), :class:`RouteRefused` or :class:`UnknownPartition`."""
        if not key or len(key) > LONGEST_KEY // 4 or not key.isascii() or "\0" in key:
            check_key(key)
        view = self._current()
        value = view.find(key) if view.find is not None and key not in view.changed else 0
        if value and not value & SHADOWED:
            name, epoch = view.names[value & PRIMARY_MASK], value >> EPOCH_SHIFT
            target = (view.reads if operation is Operation.READ else view.writes).get(name)
            if target is not None:
                target.sent += 1
                return Route(key, name, target.location, "primary", epoch, view.version, target.reason, target.uri)
        elif value and operation is Operation.READ:
            return self._nearest(view, key, value, wish)
        placement = locate(view.table, key)
        if operation is Operation.READ:
            if placement.shadows:
                return self._decided(view, placement, wish)
            target = view.reads.get(placement.primary) or self._target(view, RequestKind.READ, placement)
        else:
            target = view.writes.get(placement.primary) or self._target(view, RequestKind.WRITE, placement)
        target.sent += 1
        name = placement.primary
        return Route(key, name, target.location, "primary", placement.epoch, view.version, target.reason, target.uri)

    def routes(self, keys: Sequence[str], operation: Operation, wish: ReadPreference) -> dict[str, Route]:
        """Where many keys live."""
        return {key: self.route(key, operation, wish) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        """The partitions that the file knows."""
        addresses = self._current().addresses
        return tuple(PartitionAddress(name, location, uri) for name, (location, uri) in addresses.items())

    def refresh(self) -> None:
        """Look at the files now; nothing newer can be had here."""
        self._look(wait=True)

    def version(self) -> int:
        """The version of the table that answers; 0 where there is none."""
        try:
            return self._current().version
        except Unreachable:
            return 0

    def age(self) -> float:
        """Seconds since the control database last agreed with the table."""
        return max(0.0, self._clock() - self._current().saved.confirmed_at)

    def avoid(self, partition: str) -> None:
        """Send reads elsewhere for ``AVOID_SECONDS``, where another copy stands."""
        with self._booking:
            self._avoided[partition] = self._clock() + AVOID_SECONDS
            self._take_in(self._live.loads)
        self._note_sent()

    def close(self) -> None:
        """Forget the files."""
        self._view, self._stamps = None, (0, 0)

    def _current(self) -> View:
        if time.monotonic() >= self._look_at:
            self._look(wait=self._view is None)
        view = self._view
        if view is None:
            raise Unreachable("routing file", str(self._folder), "start the sidecar, which writes it")
        return view

    def _look(self, *, wait: bool) -> None:
        """Read what has changed; one thread does, the others go on with what there is."""
        if not self._looking.acquire(blocking=wait):
            return
        try:
            now = time.monotonic()
            self._look_at = now + self._look_every
            if now >= self._renew_at:
                self._renew_at = now + min(RENEW_EVERY, self._look_every * 5)
                self._note_sent()
            stamps = (stamp(self._folder), self._live_file.stamp())
            if stamps != self._stamps:
                self._note_sent()
            if stamps[1] != self._stamps[1] and stamps[1]:
                self._read_live()
            if stamps[0] != self._stamps[0]:
                self._read_table()
            elif self._view is not None and stamps[1] != self._stamps[1]:
                self._view = View(self._view.saved, self._live, self._rules)
            self._stamps = stamps
        finally:
            self._looking.release()

    def _read_table(self) -> None:
        newer = self._read_changes()
        if newer is not None:
            self._view = View(newer, self._live, self._rules)
            return
        for path in (self._folder / name for name in FILES):
            try:
                saved = read_routing(path)
            except FileNotFoundError:
                continue
            except (OSError, CorruptRoutingFile) as error:
                log.error("%s", error)  # noqa: TRY400 (one line, and the one before serves)
                continue
            with self._booking:
                self._book.register({p.partition_id: p.capacity for p in saved.partitions})
                self._take_in(self._live.loads)
            self._view = View(saved, self._live, self._rules)
            return

    def _read_changes(self) -> SavedRouting | None:
        """What was published since the image that is mapped already, where the folder still holds that one and the same
        partitions; mapping it again would mean to check all of it again."""
        saved = self._view.saved if self._view is not None else None
        if saved is None or not isinstance(saved.table.placements, PackedPlacements):
            return None
        base = saved.table.placements.base
        name = name_of(base)
        if RoutingFile(self._folder).image() != name:
            return None
        try:
            overlay = read_overlay(overlay_of(self._folder, name))
            confirmed_at = (self._folder / FILES[0]).stat().st_mtime
            newer = routing_of(overlay.description, PackedPlacements(base, overlay.changed), confirmed_at)
        except (OSError, CorruptRoutingFile, ValueError, KeyError, TypeError, IndexError):
            return None
        return newer if newer.partitions == saved.partitions else None

    def _read_live(self) -> None:
        try:
            self._live = self._live_file.read()
        except (OSError, ValueError) as error:
            log.warning("loads and freshness beside the routing file can't be read: %s", error)
            return
        with self._booking:
            self._take_in(self._live.loads)

    def _take_in(self, loads: Iterable[PartitionLoad]) -> None:
        """Bring the load book up to date; a partition that is avoided counts as unreachable."""
        now = self._clock()
        self._avoided = {name: until for name, until in self._avoided.items() if until > now}
        self._book.report([one for one in loads if one.partition_id not in self._avoided], now)
        moment = datetime.fromtimestamp(now, UTC)
        self._book.report([PartitionLoad(name, 0.0, False, moment) for name in self._avoided], now)

    def _note_sent(self) -> None:
        """Tell the book what was sent since the last look, and have the reasons made anew."""
        view = self._view
        if view is None:
            return
        now = self._clock()
        with self._booking:
            for name, cost in view.sent(self._rules.read_cost, self._rules.write_cost):
                self._book.sent(name, cost, now)

    def _target(self, view: View, kind: RequestKind, placement: Placement) -> CountedRoute:
        with self._booking:
            made = decide(RouteRequest(placement.key, kind), placement, view.around, self._book, self._clock(), self._random)
        location, uri = self._address(view, made)
        target = CountedRoute(location, uri, made.sentence)
        (view.reads if kind is RequestKind.READ else view.writes)[made.partition] = target
        return target

    def _nearest(self, view: View, key: str, value: int, wish: ReadPreference) -> Route:
        """A read of a key with shadows: by the choice that is prepared for its copies, or else decided."""
        now, copies = self._clock(), value & COPIES
        try:
            choice = view.choices[copies, wish]
        except KeyError:
            with self._booking:
                choice = view.near(view.placement(key, value), copies, wish, self._book, now)
        taken = choice.take(key, now, self._random) if choice is not None else None
        if taken is None:
            return self._decided(view, view.placement(key, value), wish)
        where = (taken.partition, taken.location, taken.role)
        return Route(key, *where, value >> EPOCH_SHIFT, view.version, taken.reason, taken.address)

    def _decided(self, view: View, placement: Placement, wish: ReadPreference) -> Route:
        request = RouteRequest(placement.key, RequestKind.READ, wish.location, wish.max_staleness)
        now = self._clock()
        with self._booking:
            made = decide(request, placement, view.around, self._book, now, self._random)
            self._book.sent(made.partition, self._rules.read_cost, now)
            if made.level is not None:
                self._book.all_overloaded((placement.primary, *placement.shadows), made.level)
            if made.relieved is not None:
                self._book.relieved(made.relieved)
        location, uri = self._address(view, made)
        return Route(placement.key, made.partition, location, made.role, made.epoch, view.version, made.sentence, uri)

    @staticmethod
    def _address(view: View, made: RouteDecision) -> tuple[str, str]:
        address = view.addresses.get(made.partition)
        if address is None:
            raise UnknownPartition(made.partition, tuple(view.addresses))
        return address
