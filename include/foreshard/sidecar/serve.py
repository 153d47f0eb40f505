"""Runs the sidecar: a supervisor, and worker processes with one event loop (uvloop) and one follower thread each.

A worker answers from the saved table first. The database driver is imported afterwards, in the follower's thread.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from foreshard.errors import ForeshardError
from foreshard.routing.address import http_address
from foreshard.sidecar._background import Background
from foreshard.sidecar._endpoints import Endpoints
from foreshard.sidecar._figures import SidecarCounters
from foreshard.sidecar._listening import BACKLOG, HANDSHAKE_SECONDS, Tls, listeners
from foreshard.sidecar._live_copy import LiveCopy
from foreshard.sidecar._metrics import SidecarMetrics
from foreshard.sidecar._open_connections import OpenConnections
from foreshard.sidecar._protocol import SidecarProtocol
from foreshard.sidecar._refresh import Refresher
from foreshard.sidecar._saved_copy import SavedCopy
from foreshard.sidecar._service import RouteService
from foreshard.sidecar._worker_stats import WorkerStats
from foreshard.sidecar._workers import Supervisor

if TYPE_CHECKING:
    from foreshard.routing.config import SidecarConfig
    from foreshard.sidecar._follower import Follower
    from foreshard.wiring import Wiring

PATIENCE_SECONDS = 2.0
"""How long a start without a saved table waits for the control database."""
SWITCH_SECONDS = 0.0005
"""How long the follower's thread may delay an answer."""
UNDISTURBED_SECONDS = 0.1
"""Time for answers, after a start from the saved table, before the follower starts."""
PUBLISH_EVERY = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """The parts of one worker process. Number 0 writes the saved table; the others map what it writes."""

    service: RouteService
    background: Background
    endpoints: Endpoints
    loaded: bool
    refresher: Refresher
    number: int
    stats: WorkerStats

    @classmethod
    def build(cls, config: SidecarConfig, wiring: Wiring, sidecar_id: str, number: int, stats: WorkerStats) -> Worker:
        """Build the parts, with the saved table loaded."""
        service, file = RouteService(config), wiring.routing_file
        saved = SavedCopy(service, file, writes=number == 0)
        loaded = saved.load()
        background = Background(lambda: _follower(service, saved, wiring, sidecar_id))
        figures = SidecarCounters(len(file.refused))
        before = stats.read(number)
        if before is not None:
            figures.add(before["figures"])  # continue the counters of the worker that this one replaces
        metrics = SidecarMetrics(service, figures, lambda: tuple(stats.others(number)))
        refresher = Refresher(background.sync)
        return cls(service, background, Endpoints(service, metrics, refresher), loaded, refresher, number, stats)

    async def run(self, sockets: Sequence[socket.socket], life: int, tls: Tls) -> None:
        """Answer until SIGTERM or SIGINT, or until the file descriptor ``life`` reaches its end."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, self._reload, tls))
        loop.add_reader(life, stop.set)
        if not self.loaded:
            self.background.start()
            await asyncio.to_thread(self.background.first_try, PATIENCE_SECONDS)
        connections = OpenConnections(self.endpoints)
        tasks = [loop.create_task(connections.sweep()), loop.create_task(self._publish_stats())]
        servers = [await self._listen(one, connections, tls) for one in sockets]
        if self.loaded:
            tasks.append(loop.create_task(self._follow()))
        await stop.wait()
        loop.remove_reader(life)
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await connections.leave()
        await asyncio.to_thread(self.background.stop)
        self.refresher.close()

    def _reload(self, tls: Tls) -> None:
        """Read the newest table and the certificate, as SIGHUP asks. Settings need a restart."""
        try:
            tls.reload()
            log.info("SIGHUP: the newest table has version %d", self.background.sync())
        except ForeshardError as error:
            log.warning("SIGHUP: not everything could be read again: %s", error)

    @staticmethod
    async def _listen(one: socket.socket, connections: OpenConnections, tls: Tls) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        protocol = partial(SidecarProtocol, connections)
        if one.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=one, backlog=BACKLOG)
        patience = None if tls.context is None else HANDSHAKE_SECONDS
        return await loop.create_server(protocol, sock=one, backlog=BACKLOG, ssl=tls.context, ssl_handshake_timeout=patience)

    async def _follow(self) -> None:
        """Start the follower, after the requests that waited for this start are answered."""
        await asyncio.sleep(UNDISTURBED_SECONDS)
        self.background.start()

    async def _publish_stats(self) -> None:
        """Publish this worker's figures to the other workers."""
        while True:
            self.stats.write(self.number, self.endpoints.metrics.document())
            await asyncio.sleep(PUBLISH_EVERY)


def serve(config: SidecarConfig, wiring: Wiring) -> None:
    """Serve until SIGTERM or SIGINT."""
    gc.disable()  # until everything is imported; the follower's thread enables it again
    raise_file_limit()
    tls = Tls(config)
    sockets = listeners(config)
    host, port = sockets[0][0].getsockname()[:2]
    name = f"{socket.gethostname()}:{port}"
    unix_socket = f" and {config.socket}" if config.socket else ""
    address = http_address(host, port, secure=tls.context is not None)
    log.info("sidecar on %s%s, process %d, workers: %d", address, unix_socket, os.getpid(), config.workers)
    sys.setswitchinterval(SWITCH_SECONDS)
    stats = WorkerStats(config.workers)

    def work(number: int, life: int) -> None:
        worker = Worker.build(config, wiring, name if number == 0 else f"{name}/{number}", number, stats)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(worker.run(sockets[number], life, tls))

    _ = wiring.routing_file  # import its module before the workers are forked
    gc.freeze()
    try:
        Supervisor(config.workers, work, import_follower).run()
    finally:
        if config.socket:
            Path(config.socket).unlink(missing_ok=True)


def import_follower() -> None:
    """Import the modules that the follower and the metrics need, and answers don't."""
    import foreshard.sidecar._exposition
    import foreshard.sidecar._follower
    import foreshard.stores.control.control_feed
    import foreshard.stores.control.partition_loads
    import foreshard.stores.control.registry
    import foreshard.stores.control.routing.store  # noqa: F401

    gc.freeze()


def _follower(service: RouteService, saved: SavedCopy, wiring: Wiring, sidecar_id: str) -> Follower:
    """The follower of the wiring's control database. Imports the database driver."""
    from foreshard.sidecar._follower import Follower

    import_follower()
    live = LiveCopy(wiring.live_routing_file)
    return Follower(service, wiring.routing, wiring.registry, wiring.loads, wiring.control_feed, saved, live, sidecar_id)


def raise_file_limit() -> None:
    """Allow this process as many open files, and so connections, as the machine permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
