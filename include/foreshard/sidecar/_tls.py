"""The sidecar's certificate. TCP connections are encrypted if one is configured; the Unix socket never is."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from foreshard.errors import ConfigurationError

if TYPE_CHECKING:
    from foreshard.routing.config import SidecarConfig

HANDSHAKE_SECONDS = 10.0
CERTIFICATE = "FORESHARD_SIDECAR__TLS_CERTIFICATE"


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
