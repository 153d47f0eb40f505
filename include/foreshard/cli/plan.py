"""``foreshard plan``: score and plan an hour without Airflow, show a plan, publish and verify its table."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.hours import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from foreshard.model import Plan, PlanWarning, Refusal


@click.group()
def plan() -> None:
    """Score partitions, plan moves and shadows, publish and verify."""


@plan.command("hour")
@click.argument("hour", type=HOUR)
@click.option("--dry-run", is_flag=True, help="Save the plan as a dry run, without effect.")
@click.option("--act-on-old-hours", is_flag=True, help="Let the plan act although newer hours are counted.")
def plan_command(hour: datetime, dry_run: bool, act_on_old_hours: bool) -> None:
    """Score the partitions for HOUR (UTC), make its plan, check it and show it. HOUR must be forecast."""
    from foreshard.stages.plan import gate_plan, plan_hour
    from foreshard.stages.score import score_partitions
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        score_partitions(wiring, hour)
        plan_hour(wiring, hour, dry_run=dry_run, act_on_old_hours=act_on_old_hours)
        for warning in gate_plan(wiring, hour).warnings:
            click.echo(f"warning: {warning}")
        show_plan(wiring.plans.load(hour))


@plan.command("show")
@click.argument("hour", type=HOUR)
def show(hour: datetime) -> None:
    """Show the plan of HOUR: LPS before and after, and every move, shadow, refusal and warning with its reason."""
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        show_plan(wiring.plans.load(hour))


@plan.command("publish")
@click.argument("hour", type=HOUR)
def publish(hour: datetime) -> None:
    """Publish the ready shadows and the removals of HOUR's plan as one version, and check the table."""
    from foreshard.stages.publish import gate_table, publish_hour
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        summary = publish_hour(wiring, hour)
        for warning in gate_table(wiring, hour).warnings:
            click.echo(f"warning: {warning}")
    click.echo(f"table version {summary.version}: {summary.note}")


def show_plan(plan: Plan) -> None:
    """Print a plan: LPS before and after, and every step, refusal and warning with its reason."""
    from rich.console import Console

    console = Console()
    kind = "dry run, without effect" if plan.dry_run else "live"
    console.print(
        f"plan for {plan.hour:%Y-%m-%dT%H:%MZ} ({kind}), made from table version {plan.table_version}", highlight=False
    )
    console.print(_scores(plan))
    if plan.moves or plan.shadows or plan.removals:
        console.print(_changes(plan))
    notes: list[Refusal | PlanWarning] = [*plan.refusals, *plan.warnings]
    for note in notes:
        console.print(f"{note.partition_id} ({note.reason.code}): {note.reason.sentence}", highlight=False, markup=False)
    if not (plan.moves or plan.shadows or plan.removals or plan.refusals):
        console.print("nothing to do: no partition passes its high-water mark")


def _scores(plan: Plan) -> Table:
    names = sorted({*plan.lps_before, *plan.lps_after})
    rows = ((name, f"{plan.lps_before.get(name, 0.0):.3f}", f"{plan.lps_after.get(name, 0.0):.3f}") for name in names)
    return _table("LPS", ("partition", "before", "after"), rows)


def _changes(plan: Plan) -> Table:
    rows = [("move", move.label, move.source, move.target, move.reason.sentence) for move in plan.moves]
    rows += [("shadow", shadow.key, shadow.source, shadow.target, shadow.reason.sentence) for shadow in plan.shadows]
    rows += [("remove shadow", gone.key, gone.source, gone.target, gone.reason.sentence) for gone in plan.removals]
    return _table("Moves and shadows", ("what", "key", "from", "to", "why"), rows)


def _table(title: str, columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
