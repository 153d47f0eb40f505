"""What routing in process goes by: the sidecar's own rules, and the keys that it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foreshard.errors import RouteRefused
from foreshard.routing.load_book import LoadRules

if TYPE_CHECKING:
    from foreshard.settings import Settings

LONGEST_KEY = 4_096
"""Bytes; the sidecar refuses longer keys as well."""


@dataclass(frozen=True, slots=True)
class LocalRules:
    """What a decision goes by, as the sidecar's settings say it; costs in cost units, times in seconds."""

    loads: LoadRules = field(default_factory=LoadRules)
    read_cost: float = 1.0
    write_cost: float = 2.0
    default_staleness: float = 10.0
    home_location: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> LocalRules:
        """The sidecar's own rules."""
        sidecar, kinds = settings.sidecar, settings.observe.request_types
        return cls(
            LoadRules(sidecar.room_mark, sidecar.load_expiry.total_seconds(), sidecar.load_time_scale),
            kinds["read"].weight if "read" in kinds else 1.0,
            kinds["write"].weight if "write" in kinds else 2.0,
            settings.shadow.maximum_staleness.total_seconds(),
            sidecar.home_location,
        )


def check_key(key: str) -> None:
    """Refuse what the sidecar refuses."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise RouteRefused(key, 400, "a key must be valid Unicode") from None
    if not key or "\0" in key:
        raise RouteRefused(key, 400, "a key must have characters, and no NUL among them")
    if length > LONGEST_KEY:
        raise RouteRefused(key, 400, f"a key has at most {LONGEST_KEY} bytes")
