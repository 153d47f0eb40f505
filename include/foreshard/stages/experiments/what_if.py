"""Replay a log with changed settings or partitions. The page, the figures and the layout are saved under a name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from foreshard.errors import ConfigurationError
from foreshard.stages._ports import WithDataFolder, WithRegistry
from foreshard.stages.experiments.replay import replay_log, save_replay
from foreshard.stages.experiments.replay_input import POLICIES, ReplayPorts, ReplayRequest

if TYPE_CHECKING:
    import pandas as pd

    from foreshard.settings import Settings

CHANGES = (
    "high_water",
    "reserve",
    "nearness",
    "churn",
    "horizon_hours",
    "partitions",
    "utilisation",
    "layout",
    "days",
    "policies",
)
"""Settings and options of the replay that can be changed."""
CURRENT = "current"
"""The name of the layout of the registered partitions with their capacities."""


class WhatIfPorts(ReplayPorts, WithRegistry, WithDataFolder, Protocol):
    """Reads a log file and the registered partitions. Writes the replay's files."""


@dataclass(frozen=True, slots=True)
class WhatIfSummary:
    """The paths of the page and the figures, and each policy's overload hours and moves."""

    log: str
    name: str
    page: Path
    figures: Path
    overload_hours: Mapping[str, float]
    moves: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _ChangedSettings:
    """The ports of a replay, with other settings."""

    settings: Settings
    access_log_batches: Callable[[Path], Iterator[pd.DataFrame]]


def what_if(ports: WhatIfPorts, log: str, name: str, changes: Mapping[str, Any]) -> WhatIfSummary:
    """Replay ``log`` with ``changes`` and save the results in ``data_dir/replays/name``.

    ``changes`` has names from ``CHANGES``; a value of None keeps the setting. ``layout`` is ``current`` for the registered
    partitions, or the path of a layout file; None makes equal partitions from ``partitions`` and ``utilisation``. Raise
    :class:`ConfigurationError` or :class:`foreshard.errors.CorruptLog` for bad input.
    """
    unknown = sorted(set(changes) - set(CHANGES))
    if unknown:
        raise ConfigurationError("changes", f"unknown {unknown[0]!r}", f"use {', '.join(CHANGES)}")
    given = {key: value for key, value in changes.items() if value is not None}
    folder = ports.data_dir / "replays" / replay_name(name)
    request = ReplayRequest(
        **{key: given[key] for key in ("partitions", "utilisation", "days") if key in given},
        layout=_layout(ports, given.get("layout"), folder),
        policies=tuple(given.get("policies") or POLICIES),
    )
    replayed = replay_log(_ChangedSettings(changed(ports.settings, given), ports.access_log_batches), Path(log), request)
    page, figures = folder / "replay.html", folder / "replay.json"
    save_replay(replayed, figures, page)
    return WhatIfSummary(
        log=log,
        name=folder.name,
        page=page,
        figures=figures,
        overload_hours={policy: found.overload_hours for policy, found in replayed.measures.items()},
        moves={policy: found.moves for policy, found in replayed.measures.items()},
        notes=replayed.notes,
    )


def replay_name(text: str) -> str:
    """Return ``text`` as a folder name: letters, digits, dots, dashes and underscores, without a leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".") or "replay"


def changed(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """Return the settings with other marks, reserve or horizon. Raise :class:`ConfigurationError` if they contradict."""
    plan = settings.plan.model_dump() | {
        key: given[key] for key in ("high_water", "reserve", "nearness", "churn") if key in given
    }
    forecast = settings.forecast.model_dump() | {key: given[key] for key in ("horizon_hours",) if key in given}
    try:
        return settings.model_copy(
            update={
                "plan": type(settings.plan).model_validate(plan),
                "forecast": type(settings.forecast).model_validate(forecast),
            }
        )
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "high_water"
        raise ConfigurationError(name, first["msg"], "give another value") from None


def _layout(ports: WhatIfPorts, layout: str | None, folder: Path) -> Path | None:
    """Return the layout's file. The registered partitions are written to one, which is kept with the results."""
    if layout != CURRENT:
        return None if layout is None else Path(layout)
    partitions = ports.registry.partitions()
    if not partitions:
        raise ConfigurationError("layout", "no partition is registered", "use foreshard partitions apply, or another layout")
    document = {
        "partitions": [
            {
                "partition_id": p.partition_id,
                "geographic_location": p.geographic_location,
                "capacity": p.capacity,
                "state": p.state.value,
            }
            for p in partitions
        ],
        "locations": [
            {"name": place.name, "latitude": place.latitude, "longitude": place.longitude}
            for place in ports.registry.locations()
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "layout.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return file
