"""Runs the sidecar: a supervisor, and in each worker the follower's thread and one event loop (uvloop) that answers."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import uvloop

from foreshard.sidecar.board import Board
from foreshard.sidecar.connections import Connections
from foreshard.sidecar.endpoints import Endpoints
from foreshard.sidecar.figures import Figures
from foreshard.sidecar.follower import Follower
from foreshard.sidecar.listening import BACKLOG, listeners
from foreshard.sidecar.metrics import SidecarMetrics
from foreshard.sidecar.protocol import SidecarProtocol
from foreshard.sidecar.refresh import Refresher
from foreshard.sidecar.service import RouteService
from foreshard.sidecar.workers import Supervisor
from foreshard.wiring import Wiring

PATIENCE_SECONDS = 2.0
"""How long the start waits for the control database where there is no saved table."""
SWITCH_SECONDS = 0.0005
"""How long the follower's thread may hold up an answer."""
SHOW_EVERY = 0.5
NEEDED_BY_WORKERS = tuple(f"foreshard.adapters.mongo_{name}" for name in ("registry", "routing", "load", "control_feed"))
"""Imported before workers are forked, so that one that replaces another need not."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """One process that answers, as its parts; ``number`` 0 keeps the saved table, the others map what it saves."""

    service: RouteService
    follower: Follower
    endpoints: Endpoints
    loaded: bool
    refresher: Refresher
    number: int = 0
    board: Board | None = None

    @classmethod
    def build(cls, wiring: Wiring, sidecar_id: str, number: int = 0, board: Board | None = None) -> Worker:
        """The parts, with the saved table loaded."""
        service = RouteService.from_settings(wiring.settings)
        follower = Follower.build(service, wiring, sidecar_id, keeps_file=number == 0)
        loaded = follower.load_saved()
        figures = Figures(len(wiring.routing_file.refused))
        before = board.read(number) if board else None
        if before is not None:
            figures.add(before["figures"])  # a worker that replaces another one counts on
        others = (lambda: tuple(board.others(number))) if board else tuple
        metrics = SidecarMetrics(service, figures, others)
        refresher = Refresher(follower.sync)
        return cls(service, follower, Endpoints(service, metrics, refresher), loaded, refresher, number, board)

    async def run(self, sockets: Sequence[socket.socket], life: int) -> None:
        """Answer until SIGTERM or SIGINT, or until ``life`` ends."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_reader(life, stop.set)
        self.follower.start()
        if not self.loaded:
            await asyncio.to_thread(self.follower.first_try.wait, PATIENCE_SECONDS)
        connections = Connections(self.endpoints)
        tasks = [loop.create_task(connections.sweep()), loop.create_task(self._show())]
        servers = [await self._listen(one, connections) for one in sockets]
        gc.freeze()
        await stop.wait()
        loop.remove_reader(life)
        for server in servers:
            server.close()
        for task in tasks:
            task.cancel()
        await connections.leave()
        await asyncio.to_thread(self.follower.stop)
        self.refresher.close()

    @staticmethod
    async def _listen(one: socket.socket, connections: Connections) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        protocol = partial(SidecarProtocol, connections)
        if one.family == socket.AF_UNIX:
            return await loop.create_unix_server(protocol, sock=one, backlog=BACKLOG)
        return await loop.create_server(protocol, sock=one, backlog=BACKLOG)

    async def _show(self) -> None:
        """Keep the figures where the other workers see them."""
        while self.board is not None:
            self.board.write(self.number, self.endpoints.metrics.document())
            await asyncio.sleep(SHOW_EVERY)


def serve(wiring: Wiring) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = wiring.settings.sidecar
    more_files()
    sockets = listeners(settings, settings.workers)
    host, port = sockets[0][0].getsockname()[:2]
    name = f"{socket.gethostname()}:{port}"
    beside = f" and {settings.socket}" if settings.socket else ""
    log.info("sidecar on http://%s:%d%s, process %d, workers: %d", host, port, beside, os.getpid(), settings.workers)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        board = Board(settings.workers)

        def work(number: int, life: int) -> None:
            worker = Worker.build(wiring, name if number == 0 else f"{name}/{number}", number, board)
            _run(worker, sockets[number], life)

        for module in NEEDED_BY_WORKERS:
            importlib.import_module(module)
        gc.freeze()
        Supervisor(settings.workers, work).run()
    finally:
        if settings.socket:
            settings.socket.unlink(missing_ok=True)


def _run(worker: Worker, sockets: Sequence[socket.socket], life: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run(sockets, life))


def more_files() -> None:
    """Allow this process as many connections as the machine lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
