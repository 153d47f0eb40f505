"""Replay a log's hours under several policies: figures as JSON, a page, and a summary. No database is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from foreshard.errors import ConfigurationError
from foreshard.lab.floor import noise_floor
from foreshard.lab.least_capacity import OVERFLOW_LIMIT, TOLERANCE, LeastCapacity, saved
from foreshard.lab.measures import Measures, measure
from foreshard.lab.page import page
from foreshard.lab.past import MINUTES_PER_HOUR
from foreshard.lab.side_by_side import PolicyProgress, side_by_side
from foreshard.model import ONE_HOUR
from foreshard.stages.experiments.replay_input import POLICIES, ReplayInput, ReplayPorts, ReplayRequest, read_input
from foreshard.stages.experiments.replay_policies import run_policy

COMPARED_WITH = {"static_hash": "hashing", "reactive": "reacting"}
"""The policies whose least capacity that of ``predictive`` is compared with, and what people call them."""


@dataclass(frozen=True)
class Replayed:
    """The result of a replay. ``document`` is the JSON; ``notes`` are remarks for people; ``html`` is the page."""

    document: Mapping[str, Any]
    measures: Mapping[str, Measures]
    notes: tuple[str, ...]
    html: str


def replay_log(ports: ReplayPorts, path: Path, request: ReplayRequest, progress: PolicyProgress | None = None) -> Replayed:
    """Replay ``path`` under each policy.

    Raise :class:`foreshard.errors.CorruptLog` or :class:`ConfigurationError` for bad input.
    """
    unknown = [name for name in request.policies if name not in POLICIES]
    if unknown or not request.policies:
        raise ConfigurationError("--policies", f"unknown policy {', '.join(unknown) or '(none)'}", f"use {', '.join(POLICIES)}")
    given = read_input(ports, path, request)
    names = tuple(dict.fromkeys(request.policies))
    starts = {name: partial(run_policy, given, name, request.capacity) for name in names}
    results = side_by_side(starts, request.processes or os.cpu_count() or 1, progress)
    floor = noise_floor(given.log, given.start, given.layout.capacity, *given.known)
    measures = {name: measure(found.run, given.log, given.layout.capacity) for name, found in results.items()}
    least = {name: found.least for name, found in results.items()}
    notes = [*given.notes, *_capacity_notes(least)]
    notes.append(f"with the load levelled in every hour, chance alone would cause {floor:,.1f} overload hours")
    document = _document(path, given, request, measures, least, notes, floor)
    runs = {name: found.run for name, found in results.items()}
    return Replayed(document, measures, tuple(notes), page(document, given.log, given.layout, runs))


def save_replay(replayed: Replayed, figures: Path | None, html: Path | None) -> None:
    """Write the JSON to ``figures`` and the page to ``html``; None skips one."""
    for path, text in ((figures, json.dumps(replayed.document, indent=1) + "\n"), (html, replayed.html)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _capacity_notes(least: Mapping[str, LeastCapacity | None]) -> list[str]:
    """Return the sentence on the capacity that the planner saves."""
    shares = {said: saved(least, "predictive", other) for other, said in COMPARED_WITH.items()}
    parts = [f"{share:.1%} against {said}" for said, share in shares.items() if share is not None]
    if not parts:
        return []
    first, *rest = parts
    sentence = ", ".join([first.replace(" against", " of capacity against"), *rest])
    return [f"predictive saves {sentence}, at an overflow share of {OVERFLOW_LIMIT:.1%} (each ±{TOLERANCE:.0%})"]


def _document(
    path: Path,
    given: ReplayInput,
    request: ReplayRequest,
    measures: Mapping[str, Measures],
    least: Mapping[str, LeastCapacity | None],
    notes: Sequence[str],
    floor: float,
) -> Mapping[str, Any]:
    log, hours = given.log, given.log.hours - given.start
    total = float(given.layout.capacity.sum())
    return {
        "log": {
            "name": path.name,
            "records": log.records,
            "keys": len(log.keys),
            "hours": log.hours,
            "first_hour": log.first.isoformat(),
            "replayed_from": log.hour(given.start).isoformat(),
            "replayed_hours": hours,
            "days": round(hours * ONE_HOUR / timedelta(days=1), 3),
            "step_minutes": MINUTES_PER_HOUR // log.steps_per_hour,
            "notes": list(notes),
        },
        "layout": {
            "utilisation": None if request.layout else request.utilisation,
            "noise_floor_overload_hours": round(floor, 3),
            "partitions": [
                {"partition_id": p.partition_id, "geographic_location": p.geographic_location, "capacity": p.capacity}
                for p in given.layout.partitions
            ],
        },
        "forecaster": given.settings.forecast.engine,
        "capacity": {
            "overflow_share": OVERFLOW_LIMIT,
            "tolerance": TOLERANCE,
            "least": {name: _least(found, total, request) for name, found in least.items() if found},
            "saved_against": {other: _rounded(saved(least, "predictive", other)) for other in COMPARED_WITH},
        },
        "policies": {
            name: {**found.document(), "least_capacity": _rounded(one.factor if (one := least[name]) else None)}
            for name, found in measures.items()
        },
    }


def _least(found: LeastCapacity, total: float, request: ReplayRequest) -> Mapping[str, float | int | None]:
    """Return the least capacity in cost/s, as a factor of the layout's, and as a utilisation of equal partitions."""
    return {
        "capacity": found.factor * total,
        "factor": _rounded(found.factor),
        "utilisation": None if request.layout else _rounded(request.utilisation / found.factor),
        "tries": found.tries,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
