"""Reads the mapping of a source from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from foreshard.errors import ConfigurationError
from foreshard.settings import SourceMapping


def read_mapping(path: Path) -> SourceMapping:
    """Return the file's mapping. Raise :class:`ConfigurationError` for the first thing that is wrong with it."""
    try:
        return SourceMapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError("mapping", f"{path} can't be read ({error})", "name a TOML file") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError("mapping", f"{path}: {place + ': ' if place else ''}{problem}", "correct it") from None
