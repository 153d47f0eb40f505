"""The replay report: a self-contained HTML file with charts on canvas, in light and dark mode."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from foreshard.lab._page_script import SCRIPT, STYLE
from foreshard.lab.log import ReplayLog
from foreshard.lab.partition_layout import PartitionLayout
from foreshard.lab.simulate import Run
from foreshard.model import SECONDS_PER_HOUR

MAXIMUM_MOVES_SHOWN = 5000
HEADINGS = {
    "overload_hours": "overload hours",
    "overflow_share": "overflow share",
    "worst_utilisation": "worst utilisation",
    "p99_utilisation": "p99 utilisation",
    "moves": "moves",
    "bytes": "MiB moved",
    "keys_moved_twice_a_day": "moved twice a day",
    "cross_partition_share": "co-access across partitions",
    "mean_distance_km": "mean distance, km",
    "shadows": "shadows",
    "least_capacity": "least capacity",
}
"""The figures' names for people. The least capacity is relative to the replayed one."""
SHORT_HEADINGS = {
    "overload_hours": "overload hours",
    "overflow_share": "overflow",
    "moves": "moves",
    "keys_moved_twice_a_day": "twice a day",
    "cross_partition_share": "apart",
    "mean_distance_km": "km",
    "least_capacity": "least capacity",
}
"""The figures that the command prints. The page has all of them."""


def figure(name: str, value: float | None) -> str:
    """Format a figure for people."""
    if value is None:
        return "–"
    if name == "bytes":
        return f"{value / 2**20:,.1f}"
    if name in ("overload_hours", "moves"):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    if name == "least_capacity":
        return f"{value:.1%}"
    if name.endswith("_share") or name == "keys_moved_twice_a_day":
        return f"{value:.2%}"
    return f"{value:,.2f}"


def page(document: Mapping[str, Any], log: ReplayLog, layout: PartitionLayout, runs: Mapping[str, Run]) -> str:
    """Return the page: a table of figures, the worst utilisation by hour for all policies, and a heat map per policy."""
    hourly = layout.capacity[:, None] * SECONDS_PER_HOUR
    data = {
        "first": document["log"]["replayed_from"],
        "hours": int(document["log"]["replayed_hours"]),
        "partitions": [p.partition_id for p in layout.partitions],
        "places": [p.geographic_location for p in layout.partitions],
        "policies": {name: _packed(run, run.worst_of_hours() / hourly, log) for name, run in runs.items()},
    }
    figures = _table(document["policies"])
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in document["log"]["notes"])
    name = html.escape(str(document["log"]["name"]))
    facts = (
        f"{len(log.keys):,} keys, {data['hours']:,} hours from {html.escape(data['first'])},"
        f" {len(layout.partitions)} partitions, {log.records:,} accesses"
    )
    packed = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Replay of {name}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>Replay of {name}</h1><p>{facts}</p>{figures}<ul>{notes}</ul>"
        '<h2>Worst utilisation of any partition</h2><p id="legend"></p>'
        '<canvas id="lines" height="260" role="img" aria-label="Worst utilisation by hour, one line per policy"></canvas>'
        "<h2>Utilisation by partition and hour</h2><p>A dot marks a key that moved there; red is above capacity. "
        'Drag over a map to zoom in, click to reset.</p><div id="maps"></div><p id="readout">&nbsp;</p></main>'
        f'<script type="application/json" id="data">{packed}</script><script>{SCRIPT}</script></body></html>\n'
    )


def _packed(run: Run, utilisation: np.ndarray[Any, Any], log: ReplayLog) -> dict[str, Any]:
    """Utilisation in percent by partition and hour, one byte each (254: 254 % or more), and the moves."""
    percent = np.clip(np.nan_to_num(utilisation) * 100, 0, 254).astype(np.uint8)
    return {
        "utilisation": base64.b64encode(percent.tobytes()).decode(),
        "moves": [
            [hour - run.first, target, f"{log.keys[key]} from {source}"]
            for hour, key, source, target in run.moves[:MAXIMUM_MOVES_SHOWN]
        ],
    }


def _table(policies: Mapping[str, Mapping[str, float]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in HEADINGS.values())
    rows = "".join(
        f"<tr><th>{html.escape(policy)}</th>"
        + "".join(f"<td>{figure(name, figures[name])}</td>" for name in HEADINGS)
        + "</tr>"
        for policy, figures in policies.items()
    )
    return f'<div class="wide"><table><thead><tr><th>policy</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
