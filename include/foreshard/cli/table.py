"""``foreshard table``: the routing table and its versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.accepting import accept_command
from foreshard.cli.first_table import init

if TYPE_CHECKING:
    from foreshard.model import Placement, RoutingTable
    from foreshard.routing.history import Difference
    from foreshard.wiring import Wiring

MOST_ROWS = 50


@click.group()
def table() -> None:
    """Publish the first routing table; show the table, its versions, and the steps back to a version."""


table.add_command(init)
table.add_command(accept_command("table", "the table", "clear `gate_table` in Airflow, or foreshard plan publish HOUR"))


@table.command()
@click.option("--key", "keys", multiple=True, help="Show only this key, even if unlisted (repeatable).")
@click.option("--limit", type=click.IntRange(1), default=MOST_ROWS, show_default=True, help="Number of rows to show.")
def show(keys: tuple[str, ...], limit: int) -> None:
    """Show the current table."""
    from collections import Counter
    from itertools import islice

    from rich.console import Console
    from rich.table import Table

    from foreshard.routing.table import locate

    with _wiring() as wiring:
        current = wiring.routing.current()
    owners = Counter(placement.primary for placement in current.placements.values())
    homes = Counter(placement.primary for placement in current.slots.placements)
    console = Console(highlight=False)
    listed = len(current.placements)
    console.print(f"version {current.version}, published {current.published_at:%Y-%m-%d %H:%M:%S} UTC, {listed:,} keys listed")
    console.print("listed keys per partition: " + (", ".join(f"{n} {owners[n]:,}" for n in sorted(owners)) or "none"))
    console.print("slots per partition: " + ", ".join(f"{name} {homes[name]:,}" for name in sorted(homes)))
    rows = Table("key", "placed by", "primary", "shadows", "epoch")
    for key in keys or islice(sorted(current.placements), limit):
        found = locate(current, key)
        by = "listed" if key in current.placements else f"slot {current.slots.space.slot_of(key)}"
        rows.add_row(key, by, found.primary, ", ".join(found.shadows), str(found.epoch))
    console.print(rows)
    if not keys and listed > limit:
        console.print(f"… and {listed - limit:,} more (--limit)")


@table.command()
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of versions to show, newest first."
)
def versions(limit: int) -> None:
    """Show the latest versions and their causes."""
    from rich.console import Console
    from rich.table import Table

    rows = Table("version", "published (UTC)", "changes", "cause")
    with _wiring() as wiring:
        for p in reversed(wiring.routing.since(max(0, wiring.routing.version() - limit))):
            rows.add_row(str(p.version), f"{p.published_at:%Y-%m-%d %H:%M:%S}", str(len(p.changes)), p.cause)
    Console().print(rows)


@table.command()
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1), required=False)
def diff(old: int, new: int | None) -> None:
    """Show the keys and slots whose copies differ between version OLD and version NEW (default: the current one)."""
    from rich.console import Console
    from rich.table import Table

    from foreshard.model.key_space import unit_label

    with _wiring() as wiring:
        past = PastTables(wiring)
        found = past.differences(old, new or past.current.version)
        newer = new or past.current.version
    rows = Table("key", f"version {old}", f"version {newer}")
    for one in found:
        rows.add_row(unit_label(one.key), _copies(one.before), _copies(one.after))
    Console().print(rows if found else f"versions {old} and {newer} have the same copies")


@table.command()
def upgrade() -> None:
    """Rewrite a table of an earlier release with slots. Nothing moves; sidecars read the new table by themselves."""
    with _wiring() as wiring:
        done = wiring.routing.upgrade()
        click.echo(f"table version {wiring.routing.version()} has slots" + ("" if done else " already"))


@table.command()
def pack() -> None:
    """Publish the packed form of the current table, so that new sidecars read one file instead of all changes."""
    with _wiring() as wiring:
        click.echo(f"packed version {wiring.routing.repack()}")


@table.command()
@click.argument("version", type=click.IntRange(1))
@click.option("--dry-run", is_flag=True, help="Only list the steps. Required for now.")
def rollback(version: int, dry_run: bool) -> None:
    """List the moves and shadow changes that would restore the placement of VERSION.

    Restoring the table alone is not possible: the data has to be moved back with it.
    """
    from foreshard.routing.history import reverse_steps

    if not dry_run:
        raise click.UsageError("a rollback moves data: list its steps with --dry-run, and start those moves yourself")
    with _wiring() as wiring:
        past = PastTables(wiring)
        steps = reverse_steps(past.differences(version, past.current.version))
        now = past.current.version
    for step in steps:
        click.echo(str(step))
    click.echo(f"{len(steps)} steps from version {now} back to the placement of version {version}; nothing was changed")


class PastTables:
    """The tables of earlier versions, rebuilt from the placements that each publication replaced."""

    def __init__(self, wiring: Wiring) -> None:
        self.current = wiring.routing.current()
        self._publications = [p for p in wiring.routing.since(0) if p.version <= self.current.version]

    def at(self, version: int) -> RoutingTable:
        """Return the table of ``version``. Raise :class:`UnknownVersion`."""
        from foreshard.errors import UnknownVersion
        from foreshard.routing.history import table_before

        known = {p.version: p for p in self._publications}
        if version not in known:
            raise UnknownVersion(version, min(known), self.current.version)
        return table_before(self.current, self._undone(version), version, known[version].published_at)

    def differences(self, old: int, new: int) -> tuple[Difference, ...]:
        """Return the keys whose copies differ between two versions."""
        from foreshard.routing.history import differences

        keys = [key for key, _ in self._undone(min(old, new))]
        return differences(self.at(old), self.at(new), keys)

    def _undone(self, version: int) -> list[tuple[str, Placement | None]]:
        later = [p for p in reversed(self._publications) if p.version > version]
        return [(change.key, before) for p in later for change, before in zip(p.changes, p.before, strict=True)]


def _copies(placement: Placement) -> str:
    shadows = f" + {', '.join(placement.shadows)}" if placement.shadows else ""
    return f"{placement.primary}{shadows} (epoch {placement.epoch})"


@contextmanager
def _wiring() -> Iterator[Wiring]:
    """The wiring, if the control database answers."""
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        yield wiring
