"""``foreshard observe show``: an hour that was counted, or that its gate refused."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.hours import HOUR

if TYPE_CHECKING:
    from foreshard.model import HourCounts
    from foreshard.stages.observing.look import HourLook
    from foreshard.wiring import Wiring


@click.command("show")
@click.argument("hour", type=HOUR)
@click.option("--keys", default=20, show_default=True, type=click.IntRange(1), help="Keys to show.")
def show(hour: datetime, keys: int) -> None:
    """Show HOUR (UTC): its records, what its gate found, and the keys with the highest cost.

    An hour that its gate refused is shown as its source gave it.
    """
    from foreshard.errors import MissingStageResult
    from foreshard.stages.observing.look import look_at_hour
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        counted = wiring.tallies.counts([hour])
        look = look_at_hour(wiring, hour, keys)
        if look is None and not counted:
            raise MissingStageResult("tally", hour.isoformat(), "foreshard observe hour")
        if look is not None:
            _show_look(look, hour)
        if counted:
            _show_counted(wiring, counted[0], keys)
        else:
            click.echo("the hour is not counted")


def _show_look(look: HourLook, hour: datetime) -> None:
    """Print the records, the gate's findings, and the acceptance."""
    if look.raw is not None:
        source = f" from {look.raw.source}" if look.raw.source else ""
        accepted, quarantined = f"{look.raw.accepted:,} accepted", f"{look.raw.quarantined:,} quarantined"
        click.echo(f"{hour:%Y-%m-%dT%HZ}: {look.raw.records:,} records{source}: {accepted}, {quarantined}")
        for name, found in (("types", look.types), ("quarantined", look.reasons), ("most frequent keys", look.keys)):
            if found:
                click.echo(f"{name}: {', '.join(f'{one} {count:,}' for one, count in found.items())}")
        click.echo(f"accepted in each ten minutes: {', '.join(f'{count:,}' for count in look.tens)}")
    if look.gate is not None:
        for line in look.gate.failures:
            click.echo(f"stops the hour: {line}")
        for line in look.gate.warnings:
            click.echo(f"warning: {line}")
    if look.acceptance is not None:
        one = look.acceptance
        click.echo(f"accepted by {one.by} at {one.at:%Y-%m-%d %H:%MZ}: {one.because}")


def _show_counted(wiring: Wiring, counted: HourCounts, keys: int) -> None:
    """Print the keys with the highest cost."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from foreshard.model import ONE_HOUR

    load = wiring.tallies.key_load(counted.hour, counted.hour + ONE_HOUR)
    table = Table(title=f"{counted.hour:%Y-%m-%dT%HZ}: {counted.accesses:,} accesses of {counted.keys:,} keys")
    for name in ("key", "accesses", "cost", "cost/s", "request types", "from"):
        table.add_column(name, justify="right" if name in {"accesses", "cost", "cost/s"} else "left", overflow="fold")
    for key, rows in sorted(load.groupby("partitionable_key"), key=lambda item: (-item[1]["cost"].sum(), item[0]))[:keys]:
        cost = float(rows["cost"].sum())
        kinds = ", ".join(f"{kind} {number}" for kind, number in rows.groupby("request_type")["count"].sum().items())
        places = rows.groupby("location")["count"].sum().sort_values(ascending=False).index[:3]
        cells = (str(key), f"{rows['count'].sum():,}", f"{cost:,.1f}", f"{cost / 3600:.4f}", kinds, ", ".join(places))
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)
