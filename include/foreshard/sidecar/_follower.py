"""Keeps the sidecar's service up to date with the control database, in a thread of its own.

The follower opens the change feed, then reads everything, then applies each fact as it arrives, so that no change is missed. If
the database is unreachable, it tries again after growing pauses, and the service answers from what it has. It acknowledges its
table version as soon as it changes and every ``ACKNOWLEDGE_EVERY`` seconds, after it has asked for the newest version. That
confirms the table, and tells the control database's clock. It keeps the saved table up to date.
"""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from foreshard.errors import ForeshardError, TableGap, Unreachable
from foreshard.ports.control_feed import (
    ControlFact,
    LoadReported,
    RegistryChanged,
    ShadowFreshness,
    TableChanged,
    Unclear,
)
from foreshard.ports.routing_file import LiveClock
from foreshard.routing.steady import boot
from foreshard.routing.table import apply_changes
from foreshard.sidecar._service import DATABASE, RouteService

if TYPE_CHECKING:
    from foreshard.model import RoutingTable
    from foreshard.ports.control_feed import ControlFeed
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.stages import LoadStore, PartitionRegistry
    from foreshard.sidecar._live_copy import LiveCopy
    from foreshard.sidecar._saved_copy import SavedCopy

ACKNOWLEDGE_EVERY = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
SAY_AGAIN = 600.0
"""Seconds between two log lines about a control database that stays unreachable."""
MOST_PUBLICATIONS = 1_000
"""If the table is further behind, it is read as a whole."""

log = logging.getLogger(__name__)


class Follower:
    """One per sidecar process. ``saved`` and ``live`` keep the files on disk."""

    def __init__(
        self,
        service: RouteService,
        routing: RoutingStore,
        registry: PartitionRegistry,
        loads: LoadStore,
        feed: ControlFeed,
        saved: SavedCopy,
        live: LiveCopy,
        sidecar_id: str,
    ) -> None:
        self._service, self._routing, self._registry, self._loads = service, routing, registry, loads
        self._feed, self._id = feed, sidecar_id
        self._saved, self._live = saved, live
        self._syncing = threading.Lock()
        self._stop = threading.Event()
        self.first_try = threading.Event()
        self._was_connected = False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._acknowledged = (0, 0.0)
        self._named: frozenset[str] = frozenset()
        self._say_at = float("-inf")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and withdraw this sidecar's acknowledgement so that moves don't wait for it."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(3.0)
        if not self._thread.is_alive():
            self._saved.close()
        if self._was_connected:
            try:
                with self._feed.reaching():
                    self._routing.withdraw(self._id)
            except Unreachable as error:
                log.warning("could not withdraw: %s", error)

    def sync(self) -> int:
        """Bring the table up to date with the control database, and return its version. Raise :class:`Unreachable`."""
        with self._syncing, self._feed.reaching():
            moment = self._service.clock()
            version, identity = self._routing.head()
            installed = self._service.installed
            if not identity:
                return self._without_published_table()
            if installed is None or installed.identity != identity:
                return self._read_whole(moment)
            behind = version - installed.table.version
            if behind and not (0 < behind <= MOST_PUBLICATIONS and self._catch_up(identity, moment)):
                return self._read_whole(moment)
            self._service.confirm(moment)
            return self._service.table().version

    def _without_published_table(self) -> int:
        installed = self._service.installed
        if installed is None:
            return 0
        log.warning("the control database has no table; still answering from version %d", installed.table.version)
        return installed.table.version

    def _catch_up(self, identity: str, moment: float) -> bool:
        """Apply the publications since the installed version. Return False if one is missing."""
        table = self._brought_up_to_date(self._service.table())
        if table is None:
            return False
        if not {p.partition_id for p in self._service.partitions} >= set(self._named):
            self._read_registry()
        self._service.install_table(table, identity, DATABASE, moment)
        return True

    def _brought_up_to_date(self, table: RoutingTable) -> RoutingTable | None:
        """Return the table with the publications since its version applied; None if one is missing."""
        named: set[str] = set()
        try:
            for p in self._routing.since(table.version):
                table = apply_changes(table, p.changes, p.version, p.published_at)
                named.update(name for c in p.changes for name in (c.primary, *c.shadows))
        except TableGap as gap:
            log.warning("%s", gap)
            return None
        self._named = frozenset(named)
        return table

    def _read_whole(self, moment: float) -> int:
        _, identity = self._routing.head()
        self._read_registry()
        table = self._from_image(identity, moment)
        if table is None:
            table = self._routing.current()
        self._service.install_table(table, identity, DATABASE, moment)
        gc.freeze()  # a table lives long: keep it out of garbage collections
        log.info("read the whole table, version %d, %d keys", table.version, len(table.placements))
        return table.version

    def _from_image(self, identity: str, moment: float) -> RoutingTable | None:
        """Return the table from its packed form, mapped from disk and brought up to date; None if that is not possible."""
        image = self._routing.image()
        if image is None or image.identity != identity:
            return None
        table = self._saved.adopt(image, moment)
        return self._brought_up_to_date(table) if table is not None else None

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                with self._feed.follow() as facts:
                    self._read_everything()
                    self._service.connected = self._was_connected = True
                    self.first_try.set()
                    pause = FIRST_PAUSE
                    self._say_found()
                    self._apply(facts)
            except ForeshardError as error:
                self._was_connected = False
                self._say_lost(error)
            except Exception:
                log.exception("the follower failed; it starts again")
            finally:
                self._service.connected = False
                self.first_try.set()
            self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that sidecars don't return all at once
            pause = min(LONGEST_PAUSE, pause * 2)

    def _mark_time(self, before: float, moment: datetime, version: int) -> None:
        """Note what the control database's clock said after the monotonic time ``before``. Freshness is judged by it."""
        ahead = moment.timestamp() - before
        self._service.set_clock(ahead + time.monotonic() - self._service.clock())
        self._live.confirm(LiveClock(boot(), ahead, before, version))

    def _say_lost(self, error: ForeshardError) -> None:
        """Log that the control database can't be followed: at once, then every ``SAY_AGAIN`` seconds."""
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + SAY_AGAIN
            log.warning("not following the control database: %s", error)

    def _say_found(self) -> None:
        if self._say_at > float("-inf"):
            self._say_at = float("-inf")
            log.info("following the control database again")

    def _read_everything(self) -> None:
        self._read_registry()
        self.sync()
        self._upkeep()
        freshness, loads = self._feed.freshness(), self._loads.current()
        usable = ((one.key, one.partition, one.caught_up_at) for one in freshness)
        self._service.install_freshness({(key, partition): at for key, partition, at in usable if at is not None})
        self._service.install_loads(loads)
        self._live.install(loads, freshness)
        self._live.keep(time.monotonic())

    def _read_registry(self) -> None:
        self._service.install_registry(self._registry.partitions(), self._registry.locations())

    def _apply(self, facts: Iterator[ControlFact | None]) -> None:
        for fact in facts:
            if self._stop.is_set():
                return
            match fact:
                case TableChanged():
                    self.sync()
                case RegistryChanged():
                    self._read_registry()
                case LoadReported(load):
                    self._service.install_loads([load])
                    self._live.load(load)
                case ShadowFreshness(key, partition, caught_up_at) as fresh:
                    self._service.freshen(key, partition, caught_up_at)
                    self._live.freshen(fresh)
                case Unclear():
                    self._read_everything()
                case None if self._service.installed is None:
                    self.sync()
            self._upkeep()

    def _upkeep(self) -> None:
        """Acknowledge the version and write the saved files, if it is time to."""
        installed = self._service.installed
        if installed is None:
            return
        now = time.monotonic()
        version, at = self._acknowledged
        if version != installed.table.version or now - at >= ACKNOWLEDGE_EVERY:
            version = self.sync()
            self._mark_time(now, self._routing.acknowledge(self._id, version), version)
            self._acknowledged = (version, now)
        self._saved.keep(now)
        self._live.keep(now)
