"""Opens the sockets that a sidecar listens on: TCP, and a Unix socket if one is configured.

TCP connections are encrypted if there is a certificate; the Unix socket never is.
"""

from __future__ import annotations

import errno
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path

from foreshard.errors import ConfigurationError, PortInUse
from foreshard.routing.config import SidecarConfig

BACKLOG = 2048
HANDSHAKE_SECONDS = 10.0
CERTIFICATE = "FORESHARD_SIDECAR__TLS_CERTIFICATE"


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


class Tls:
    """The context of TCP connections. ``context``: None without a certificate."""

    def __init__(self, config: SidecarConfig) -> None:
        """Read the certificate. Raise :class:`ConfigurationError`."""
        self._certificate, self._key = config.tls_certificate, config.tls_key
        self.context: ssl.SSLContext | None = None
        if self._certificate is None and self._key is not None:
            raise ConfigurationError(CERTIFICATE, "there is a key, but no certificate", "name the certificate's file")
        if self._certificate is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.reload()

    def reload(self) -> None:
        """Read the certificate again, for new connections. Raise :class:`ConfigurationError`."""
        certificate, key = self._certificate, self._key or self._certificate
        if self.context is None or certificate is None:
            return
        try:
            self.context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            problem = f"{certificate} with the key in {key} can't be used ({reason})"
            raise ConfigurationError(CERTIFICATE, problem, "give a certificate and its unencrypted key, both as PEM") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")
