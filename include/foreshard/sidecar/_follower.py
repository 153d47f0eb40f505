"""Keeps the sidecar's service in step with the control database, in a thread of its own.

It opens a change stream, then reads everything, then takes in each fact as it comes, so that nothing falls between; where the
database goes away it comes back with growing pauses while the service answers from what it has. It acknowledges its version as
soon as it changes and every ``ACKNOWLEDGE_EVERY`` seconds, and keeps the saved copy up to date.
"""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from foreshard.errors import ForeshardError, TableGap
from foreshard.routing.table import apply_changes
from foreshard.sidecar._live_copy import LiveCopy
from foreshard.sidecar._service import DATABASE, RouteService
from foreshard.stores.control.control_feed import (
    Fact,
    LoadReported,
    RegistryChanged,
    ShadowFreshness,
    TableChanged,
    Unclear,
)

if TYPE_CHECKING:
    from foreshard.model import RoutingTable
    from foreshard.ports.routing import RoutingStore
    from foreshard.ports.stages import LoadStore, PartitionRegistry
    from foreshard.sidecar._saved_copy import SavedCopy
    from foreshard.stores.control.control_feed import ControlFeed
    from foreshard.wiring import Wiring

ACKNOWLEDGE_EVERY = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
MOST_PUBLICATIONS = 1_000
"""Farther behind than this, the whole table is read instead."""

log = logging.getLogger(__name__)


class Follower:
    """One per sidecar process; ``saved`` is what the service answers from before."""

    def __init__(
        self,
        service: RouteService,
        routing: RoutingStore,
        registry: PartitionRegistry,
        loads: LoadStore,
        feed: ControlFeed,
        saved: SavedCopy,
        sidecar_id: str,
    ) -> None:
        self._service, self._routing, self._registry, self._loads = service, routing, registry, loads
        self._feed, self._id = feed, sidecar_id
        self._saved, self._live = saved, LiveCopy(saved.folder)
        self._syncing = threading.Lock()
        self._stop = threading.Event()
        self.first_try = threading.Event()
        self._was_connected = False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._acknowledged = (0, 0.0)
        self._named: frozenset[str] = frozenset()

    @classmethod
    def build(cls, service: RouteService, saved: SavedCopy, wiring: Wiring, sidecar_id: str) -> Follower:
        """The follower of the wiring's control database."""
        return cls(service, wiring.routing, wiring.registry, wiring.loads, wiring.control_feed, saved, sidecar_id)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and withdraw from the sidecars that are waited for."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(3.0)
        if not self._thread.is_alive():
            self._saved.close()
        if self._was_connected:
            try:
                self._routing.withdraw(self._id)
            except PyMongoError as error:
                log.warning("could not withdraw: %s", error)

    def sync(self) -> int:
        """Make the table as new as the control database's at this moment; return its version. Raises PyMongoError."""
        with self._syncing:
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
        log.warning("the control database holds no table; still answering from version %d", installed.table.version)
        return installed.table.version

    def _catch_up(self, identity: str, moment: float) -> bool:
        """Apply the publications since the installed version; False where one is missing."""
        table = self._brought_up_to_date(self._service.table())
        if table is None:
            return False
        if not {p.partition_id for p in self._service.partitions} >= set(self._named):
            self._read_registry()
        self._service.install_table(table, identity, DATABASE, moment)
        return True

    def _brought_up_to_date(self, table: RoutingTable) -> RoutingTable | None:
        """The table with the publications since its version; None where one is missing."""
        named: set[str] = set()
        try:
            for p in self._routing.since(table.version):
                table = apply_changes(table, p.changes, p.version, p.published_at, p.default_rule)
                named.update(name for c in p.changes for name in (c.primary, *c.shadows))
                named.update(p.default_rule.partitions if p.default_rule else ())
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
        gc.freeze()  # a table stays: the collector need not look at it again and again
        log.info("read the whole table, version %d, %d keys", table.version, len(table.placements))
        return table.version

    def _from_image(self, identity: str, moment: float) -> RoutingTable | None:
        """The table from its packed form, mapped from the file that it is saved in; None where there is none that serves."""
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
                    self._take_in(facts)
            except (PyMongoError, ForeshardError) as error:
                self._was_connected = False
                log.warning("not following the control database: %s", str(error).split(", Timeout:")[0])
            except Exception:
                log.exception("the follower failed; it starts again")
            finally:
                self._service.connected = False
                self.first_try.set()
            self._stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the sidecars' returns
            pause = min(LONGEST_PAUSE, pause * 2)

    def _read_everything(self) -> None:
        self._read_registry()
        freshness, loads = self._feed.freshness(), self._loads.current()
        self._service.install_freshness(freshness)
        self._service.install_loads(loads)
        self._live.install(loads, freshness)
        self.sync()
        self._upkeep()

    def _read_registry(self) -> None:
        self._service.install_registry(self._registry.partitions(), self._registry.locations())

    def _take_in(self, facts: Iterator[Fact | None]) -> None:
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
                case ShadowFreshness(key, partition, caught_up_at):
                    self._service.freshen(key, partition, caught_up_at)
                    self._live.freshen(key, partition, caught_up_at)
                case Unclear():
                    self._read_everything()
                case None if self._service.installed is None:
                    self.sync()
            self._upkeep()

    def _upkeep(self) -> None:
        """Acknowledge the version and keep the saved copy, where it is time."""
        installed = self._service.installed
        if installed is None:
            return
        now = time.monotonic()
        version, at = self._acknowledged
        if version != installed.table.version or now - at >= ACKNOWLEDGE_EVERY:
            self._routing.acknowledge(self._id, installed.table.version)
            self._service.confirm(self._service.clock())
            self._acknowledged = (installed.table.version, now)
        self._saved.keep(now)
        self._live.keep(now)
