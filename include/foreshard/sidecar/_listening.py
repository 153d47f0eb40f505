"""Takes the addresses that a sidecar answers at: a TCP port, loopback by default, and a Unix socket where one is set."""

from __future__ import annotations

import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

from foreshard.errors import ConfigurationError, PortInUse
from foreshard.sidecar.essentials import Essentials

BACKLOG = 2048


def listeners(said: Essentials) -> list[list[socket.socket]]:
    """For each worker, the sockets that it accepts from. The first one's listen already, the others' when they are ready.

    Workers have a TCP socket each, among which the kernel spreads connections, and share the Unix socket.
    Raise :class:`PortInUse` or :class:`ConfigurationError`.
    """
    first = _tcp(said, said.port, shared=False)
    port = first.getsockname()[1]
    if said.workers == 1:
        tcp = [first]
    else:
        first.close()  # it has shown that nobody else listens there
        tcp = [_tcp(said, port, shared=True) for _ in range(said.workers)]
    tcp[0].listen(BACKLOG)
    local = [unix_listener(Path(said.socket))] if said.socket else []
    return [[one, *local] for one in tcp]


def _tcp(said: Essentials, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in said.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((said.host, port))
        if not shared:
            listener.listen(BACKLOG)  # two that only bind would both get the port
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse("sidecar", port) from error
        problem = f"can't listen on {said.host}:{port} ({error.strerror or error})"
        raise ConfigurationError("FORESHARD_SIDECAR__HOST", problem, "choose an address of this machine") from error
    return listener


def unix_listener(path: Path) -> socket.socket:
    """Listen at ``path``; a socket that a dead process has left there is replaced."""
    name, advice = "FORESHARD_SIDECAR__SOCKET", "choose another path, in a folder that this user may write to"
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
