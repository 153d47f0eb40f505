"""The units of a move in the documents of ``moves`` and ``plans``. Older documents name one ``key`` instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNITS = {"units": 1, "key": 1}
"""The projection that :func:`units_of` needs."""


def units_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the units of a move."""
    units = document.get("units")
    return tuple(units) if units is not None else (document["key"],)
