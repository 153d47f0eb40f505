"""Runs the sidecar: the follower's thread and one HTTP server (uvicorn on uvloop and httptools)."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from foreshard.errors import ConfigurationError, PortInUse
from foreshard.settings import SidecarSettings
from foreshard.sidecar.app import SidecarApp
from foreshard.sidecar.follower import Follower
from foreshard.sidecar.metrics import SidecarMetrics
from foreshard.sidecar.refresh import Refresher
from foreshard.sidecar.service import RouteService
from foreshard.wiring import Wiring

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
SHUTDOWN_SECONDS = 3
PATIENCE_SECONDS = 2.0
"""How long the start waits for the control database where there is no saved table."""

log = logging.getLogger(__name__)


def build(wiring: Wiring, sidecar_id: str) -> tuple[SidecarApp, RouteService, Follower]:
    """The application, with the saved table loaded; its lifespan starts and stops the follower."""
    service = RouteService.from_settings(wiring.settings)
    follower = Follower.build(service, wiring, sidecar_id)
    loaded = follower.load_saved()
    refresher = Refresher(follower.sync)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        import asyncio

        follower.start()
        if not loaded:
            await asyncio.to_thread(follower.first_try.wait, PATIENCE_SECONDS)
        gc.freeze()
        yield
        await asyncio.to_thread(follower.stop)
        refresher.close()

    metrics = SidecarMetrics(service, len(wiring.routing_file.refused))
    return SidecarApp(service, metrics, refresher, lifespan), service, follower


def bind(settings: SidecarSettings) -> socket.socket:
    """Take the port before anything else; raise :class:`PortInUse` or :class:`ConfigurationError`."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse("sidecar", settings.port) from error
        problem = f"can't listen on {settings.host}:{settings.port} ({error.strerror or error})"
        raise ConfigurationError("FORESHARD_SIDECAR__HOST", problem, "choose an address of this machine") from error
    return listener


def serve(wiring: Wiring) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = wiring.settings.sidecar
    listener = bind(settings)
    host, port = listener.getsockname()[:2]
    app, _, _ = build(wiring, f"{socket.gethostname()}:{port}")
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    log.info("sidecar on http://%s:%d, process %d", host, port, os.getpid())
    uvicorn.Server(config).run(sockets=[listener])
