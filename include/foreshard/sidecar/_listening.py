"""Opens the sockets that a sidecar listens on: TCP, and a Unix socket if one is configured."""

from __future__ import annotations

import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

from foreshard.errors import ConfigurationError, PortInUse
from foreshard.routing.config import SidecarConfig

BACKLOG = 2048


def listeners(config: SidecarConfig) -> list[list[socket.socket]]:
    """Return each worker's sockets. Those of the first worker listen already, the others start to when their worker is ready.

    Each worker has its own TCP socket, and the kernel spreads connections over them. The Unix socket is shared.
    Raise :class:`PortInUse` or :class:`ConfigurationError`.
    """
    first = _tcp(config, config.port, shared=False)
    port = first.getsockname()[1]
    if config.workers == 1:
        tcp = [first]
    else:
        first.close()  # it has shown that the port is free
        tcp = [_tcp(config, port, shared=True) for _ in range(config.workers)]
    tcp[0].listen(BACKLOG)
    local = [unix_listener(config.socket)] if config.socket else []
    return [[one, *local] for one in tcp]


def _tcp(config: SidecarConfig, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((config.host, port))
        if not shared:
            listener.listen(BACKLOG)  # two processes that only bind would both get the port
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse("sidecar", port) from error
        problem = f"can't listen on {config.host}:{port} ({error.strerror or error})"
        raise ConfigurationError("FORESHARD_SIDECAR__HOST", problem, "choose an address of this machine") from error
    return listener


def unix_listener(path: Path) -> socket.socket:
    """Listen at ``path``, and replace a socket that a dead process left there."""
    name, advice = "FORESHARD_SIDECAR__SOCKET", "choose another path, in a folder that this user can write to"
    if _answers(path):
        raise ConfigurationError(name, f"another process listens at {path}", advice)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(name, f"can't listen at {path} ({error.strerror or error})", advice) from error
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, suppress(OSError):
        caller.settimeout(1.0)
        caller.connect(str(path))
        return True
    return False
