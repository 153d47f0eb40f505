"""Settings of the sidecar, the load reporter and the exporter."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from foreshard.settings._section import SettingsSection


class SidecarSettings(SettingsSection):
    """Where the sidecar listens, how it chooses between copies, and how partitions' loads are measured."""

    host: str = Field(
        default="127.0.0.1", description="Address that the sidecar and the exporter listen on. Neither has authentication."
    )
    port: int = Field(default=7788, ge=0, le=65535, description="TCP port of the sidecar; 0 chooses a free one.")
    socket: Path | None = Field(default=None, description="Path of a Unix socket to listen on as well. None: TCP only.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that answer.")
    room_mark: float = Field(
        default=0.8,
        gt=0,
        description="Utilisation (load divided by capacity) up to which a partition has room. Above it, reads go to other"
        " copies where there are any.",
    )
    load_interval: timedelta = Field(
        default=timedelta(seconds=2), description="How often the load reporter measures each partition."
    )
    load_expiry: timedelta = Field(
        default=timedelta(seconds=15), description="A sidecar ignores load reports that are older than this."
    )
    load_time_scale: float = Field(
        default=1.0,
        gt=0,
        description="Seconds of log time per second of real time. Above 1 only when a log is played faster than it happened.",
    )
    load_smoothing: timedelta = Field(
        default=timedelta(seconds=5), description="Time constant of the moving average of measured loads."
    )
    operation_weights: dict[str, float] = Field(
        default={"query": 1.0, "getmore": 1.0, "insert": 2.0, "update": 2.0, "delete": 2.0, "command": 0.0},
        description="Cost units per operation that a mongod counts (`serverStatus.opcounters`).",
    )
    home_location: str | None = Field(
        default=None,
        description="Location assumed for requests that name none, or an unknown one. None: such requests have no location.",
    )
    names: tuple[str, ...] = Field(
        default=(),
        description="Names with a dot by which apps call the sidecar. Requests for other such names are refused, because a web"
        " page may have its own name resolve to the sidecar's address. Addresses and names without a dot need no entry.",
    )
    token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Bearer token, of ASCII letters, digits and signs, that every request to the sidecar must have, except"
        " `/healthz` and `/readyz`. Clients send it. Set it through the environment, not in the file. None: none is needed.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with the sidecar's certificate, and those of its issuers. TCP is then encrypted (https), and"
        " clients check the certificate. SIGHUP reads it again. None: no encryption.",
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file with the certificate's unencrypted key. None: it is in the certificate's file."
    )
    tls_authority: Path | None = Field(
        default=None,
        description="PEM file with the authorities by which clients check the sidecar's certificate. None: the system's.",
    )
    stale_after: timedelta = Field(
        default=timedelta(minutes=10),
        description="`/readyz` reports 503 once the control database has not confirmed the sidecar's table for this long. Keep"
        " it below `FORESHARD_MIGRATE__SOURCE_KEPT`.",
    )
    metrics_port: int = Field(default=7789, ge=0, le=65535, description="TCP port of the exporter's `/metrics`.")

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not all("!" <= sign <= "~" for sign in token.get_secret_value()):
            raise ValueError("it has a space or a sign that is not ASCII; draw one with: openssl rand -hex 32")
        return token
