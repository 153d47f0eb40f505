"""The demo's tables: partitions before and after, the plan with its reasons, routed requests, and the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from foreshard.demo._check import AppCheck
from foreshard.demo._loop import LoopTimes
from foreshard.demo.demo_layout import DemoLayout
from foreshard.model import Plan, RoutingTable
from foreshard.routing.table import locate
from foreshard.stages.publish import VerifySummary
from foreshard.stages.score import refresh_predicted_load
from foreshard.wiring import Wiring

Answers = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One routed request of the report."""

    key: str
    op: str
    location: str


def routes(sidecar_url: str, keys: Sequence[str]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Ask the sidecar for each key: a read and a write from San Francisco, and a read from San Jose."""
    asked: dict[tuple[str, str, str], dict[str, Any]] = {}
    with httpx.Client(base_url=sidecar_url, timeout=10) as http:
        for op, location in (("read", "San Francisco"), ("write", "San Francisco"), ("read", "San Jose")):
            answer = http.post("/v1/routes", json={"keys": list(keys), "op": op, "from": location})
            answer.raise_for_status()
            asked.update({(a["key"], op, location): a for a in answer.json()["routes"]})
    return asked


def show(
    console: Console,
    wiring: Wiring,
    sidecar_url: str,
    hour: datetime,
    layout: DemoLayout,
    before: Mapping[tuple[str, str, str], dict[str, Any]],
) -> None:
    """Print what the loop did."""
    plan = wiring.plans.load(hour)
    table = wiring.routing.current()
    console.print()
    lps_after = refresh_predicted_load(wiring, hour)
    console.print(partition_table(wiring, hour, lps_after, layout.table, table))
    console.print(plan_table(plan))
    for refusal in plan.refusals:
        console.print(f"  {refusal.partition_id}: {refusal.reason.sentence}")
    for warning in plan.warnings:
        console.print(f"  {warning.reason.sentence}")
    console.print(f"routing table version {layout.table.version} → {table.version}", highlight=False)
    keys = sorted(layout.table.placements)
    console.print(route_table(before, routes(sidecar_url, keys), chosen_requests(plan, keys)))


def partition_table(
    wiring: Wiring, hour: datetime, lps_after: Mapping[str, float], first: RoutingTable, now: RoutingTable
) -> Table:
    """Per partition: the closing hour's load, LPS and number of keys under the first and the published table."""
    lps_before = {score.partition_id: score.lps for score in wiring.scores.load(hour)}
    loads = hour_loads(wiring, hour, first)
    keys_before, keys_after = (Counter(locate(table, key).primary for key in first.placements) for table in (first, now))
    table = Table(title=f"Partitions, hour {hour:%Y-%m-%d %H:00} UTC", title_justify="left")
    for column in ("partition", "location"):
        table.add_column(column)
    for column in ("capacity", "load now", "LPS before", "LPS after", "keys"):
        table.add_column(column, justify="right")
    for partition in wiring.registry.partitions():
        name = partition.partition_id
        table.add_row(
            name,
            partition.geographic_location,
            f"{partition.capacity:.3f}",
            f"{loads.get(name, 0.0):.3f}",
            f"{lps_before[name]:.2f}",
            f"{lps_after[name]:.2f}",
            f"{keys_before[name]} → {keys_after[name]}",
        )
    table.caption = "load, capacity: cost units/s; LPS: forecast peak of the next 24 h at the upper quantile ÷ capacity"
    return table


def hour_loads(wiring: Wiring, hour: datetime, table: RoutingTable) -> dict[str, float]:
    """Return each partition's mean cost per second in ``hour``, as tallied, under ``table``."""
    rows = wiring.tallies.key_load(hour, hour + timedelta(hours=1))
    owners = rows["partitionable_key"].map(lambda key: locate(table, key).primary)
    return {str(name): float(cost) / 3600 for name, cost in rows.groupby(owners)["cost"].sum().items()}


def plan_table(plan: Plan) -> Table:
    """Return every move and shadow with its reason."""
    table = Table(title="Moves and shadows", title_justify="left")
    for column in ("what", "key", "from", "to", "why"):
        table.add_column(column, overflow="fold")
    for move in plan.moves:
        table.add_row("move", move.label, move.source, move.target, move.reason.sentence)
    for shadow in plan.shadows:
        table.add_row("shadow", shadow.key, shadow.source, shadow.target, shadow.reason.sentence)
    for removal in plan.removals:
        table.add_row("remove shadow", removal.key, removal.source, removal.target, removal.reason.sentence)
    return table


def chosen_requests(plan: Plan, keys: Sequence[str]) -> tuple[Asked, ...]:
    """Return three requests: a write to a moved key, a distant read of a shadowed key, and a read of an unchanged key."""
    touched = {unit for m in plan.moves for unit in m.units} | {s.key for s in plan.shadows}
    moved = plan.moves[0].units[0] if plan.moves else None
    shadowed = plan.shadows[0].key if plan.shadows else (plan.moves[-1].units[0] if plan.moves else None)
    untouched = next((key for key in keys if key not in touched), None)
    asked = (
        Asked(moved, "write", "San Francisco") if moved else None,
        Asked(shadowed, "read", "San Jose") if shadowed else None,
        Asked(untouched, "read", "San Francisco") if untouched else None,
    )
    return tuple(one for one in asked if one is not None)


def route_table(
    before: Mapping[tuple[str, str, str], dict[str, Any]],
    after: Mapping[tuple[str, str, str], dict[str, Any]],
    asked: Sequence[Asked],
) -> Table:
    """Return the sidecar's answers to the same requests before and after."""
    table = Table(title="Routed requests, before and after", title_justify="left")
    for column in ("request", "when", "partition", "role", "table", "reason"):
        table.add_column(column, overflow="fold")
    for one in asked:
        identity = (one.key, one.op, one.location)
        for when, answers in (("before", before), ("after", after)):
            a = answers[identity]
            request = f"{one.op} {one.key} from {one.location}" if when == "before" else ""
            table.add_row(request, when, a["partition"], a["role"], str(a["table_version"]), _reason(a))
    return table


def show_checks(console: Console, verified: VerifySummary, app: AppCheck, times: LoopTimes) -> None:
    """Print the figures of every check."""
    table = Table(title="Checked in the databases themselves", title_justify="left")
    table.add_column("check")
    table.add_column("figures", justify="right")
    for name, figures in verified.figures():
        table.add_row(name, figures)
    table.add_row("acknowledged writes of the example app", f"{app.acknowledged:,}, {app.missing} missing")
    table.add_row("writes with a lost answer (may have happened)", str(app.ambiguous))
    table.add_row("rides that failed", str(len(app.failed)))
    table.add_row("hour's closing to published table", f"{times.to_published:.0f} s")
    for dag, seconds in times.per_dag.items():
        table.add_row(f"  DAG {dag}", f"{seconds:.0f} s")
    console.print(table)


def _reason(answer: Mapping[str, Any]) -> str:
    reason = answer["reason"]
    return str(reason["sentence"] if isinstance(reason, Mapping) else reason)
