"""Runs the sidecar: a supervisor, and in each worker the follower's thread and one event loop (uvloop) that answers.

A start answers from the saved table as soon as it can: what it does without then is imported afterwards
(:mod:`foreshard.sidecar._background`).
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

from foreshard.sidecar._background import Background
from foreshard.sidecar._endpoints import Endpoints
from foreshard.sidecar._figures import SidecarCounters
from foreshard.sidecar._listening import BACKLOG, listeners
from foreshard.sidecar._metrics import SidecarMetrics
from foreshard.sidecar._open_connections import OpenConnections
from foreshard.sidecar._protocol import SidecarProtocol
from foreshard.sidecar._refresh import Refresher
from foreshard.sidecar._saved_copy import SavedCopy
from foreshard.sidecar._service import RouteService
from foreshard.sidecar._worker_stats import WorkerStats
from foreshard.sidecar._workers import Supervisor
from foreshard.sidecar.essentials import Essentials
from foreshard.stores.files.routing_file import RoutingFile

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.sidecar._follower import Follower

PATIENCE_SECONDS = 2.0
"""How long the start waits for the control database where there is no saved table."""
SWITCH_SECONDS = 0.0005
"""How long the follower's thread may hold up an answer."""
UNDISTURBED_SECONDS = 0.1
"""After a start from the saved table, until anything is imported beside the answers."""
SHOW_EVERY = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """One process that answers, as its parts; ``number`` 0 keeps the saved table, the others map what it saves."""

    service: RouteService
    background: Background
    endpoints: Endpoints
    loaded: bool
    refresher: Refresher
    number: int = 0
    board: WorkerStats | None = None

    @classmethod
    def build(
        cls, said: Essentials, settings: Settings, sidecar_id: str, number: int = 0, board: WorkerStats | None = None
    ) -> Worker:
        """The parts, with the saved table loaded."""
        service, file = RouteService.of(said), RoutingFile(said.routing_folder)
        saved = SavedCopy(service, file, writes=number == 0)
        loaded = saved.load()
        background = Background(lambda: _follower(service, saved, settings, sidecar_id))
        figures = SidecarCounters(len(file.refused))
        before = board.read(number) if board else None
        if before is not None:
            figures.add(before["figures"])  # a worker that replaces another one counts on
        others = (lambda: tuple(board.others(number))) if board else tuple
        metrics = SidecarMetrics(service, figures, others)
        refresher = Refresher(background.sync)
        return cls(service, background, Endpoints(service, metrics, refresher), loaded, refresher, number, board)

    async def run(self, sockets: Sequence[socket.socket], life: int) -> None:
        """Answer until SIGTERM or SIGINT, or until ``life`` ends."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_reader(life, stop.set)
        if not self.loaded:
            self.background.start()
            await asyncio.to_thread(self.background.first_try, PATIENCE_SECONDS)
        connections = OpenConnections(self.endpoints)
        tasks = [loop.create_task(connections.sweep()), loop.create_task(self._show())]
        servers = [await self._listen(one, connections) for one in sockets]
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

    @staticmethod
    async def _listen(one: socket.socket, connections: OpenConnections) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        protocol = partial(SidecarProtocol, connections)
        if one.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=one, backlog=BACKLOG)
        return await loop.create_server(protocol, sock=one, backlog=BACKLOG)

    async def _follow(self) -> None:
        """Follow, after those were answered who have waited for the start."""
        await asyncio.sleep(UNDISTURBED_SECONDS)
        self.background.start()

    async def _show(self) -> None:
        """Keep the figures where the other workers see them."""
        while self.board is not None:
            self.board.write(self.number, self.endpoints.metrics.document())
            await asyncio.sleep(SHOW_EVERY)


def serve(said: Essentials, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    gc.disable()  # until everything is imported: imported modules never become garbage
    more_files()
    sockets = listeners(said)
    host, port = sockets[0][0].getsockname()[:2]
    name = f"{socket.gethostname()}:{port}"
    beside = f" and {said.socket}" if said.socket else ""
    log.info("sidecar on http://%s:%d%s, process %d, workers: %d", host, port, beside, os.getpid(), said.workers)
    sys.setswitchinterval(SWITCH_SECONDS)
    board = WorkerStats(said.workers)

    def work(number: int, life: int) -> None:
        worker = Worker.build(said, settings, name if number == 0 else f"{name}/{number}", number, board)
        _run(worker, sockets[number], life)

    gc.freeze()
    try:
        Supervisor(said.workers, work, import_follower).run()
    finally:
        if said.socket:
            Path(said.socket).unlink(missing_ok=True)


def import_follower() -> None:
    """Import what only the follower needs."""
    import foreshard.sidecar._exposition
    import foreshard.sidecar._follower
    import foreshard.stores.control.control_feed
    import foreshard.wiring  # noqa: F401

    gc.freeze()


def _follower(service: RouteService, saved: SavedCopy, settings: Settings, sidecar_id: str) -> Follower:
    """The follower of the settings' control database. Imports the database driver."""
    from foreshard.sidecar._follower import Follower
    from foreshard.wiring import Wiring

    return Follower.build(service, saved, Wiring(settings), sidecar_id)


def _run(worker: Worker, sockets: Sequence[socket.socket], life: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run(sockets, life))


def more_files() -> None:
    """Allow this process as many connections as the machine lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
