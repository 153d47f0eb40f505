"""The argument of a log: a path, or an address such as ``s3://bucket/logs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace


class LogPlaceType(click.ParamType[Any]):
    """Converts text to a :class:`Path`, and leaves an address as it is."""

    name = "path"

    def convert(self, value: Any, _param: click.Parameter | None, _context: click.Context | None) -> LogPlace:
        """Return the place."""
        return value if "://" in str(value) else Path(value)


LOG_PLACE = LogPlaceType()
