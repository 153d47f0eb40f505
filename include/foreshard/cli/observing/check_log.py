"""``foreshard observe check``: look at a log before it is counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.log_place import LOG_PLACE

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace
    from foreshard.stages.observing.check_log import LogCheck


@click.command("check")
@click.argument("log", required=False, type=LOG_PLACE)
@click.option(
    "--mapping", type=click.Path(path_type=Path), default=None, help="TOML file that says what the log's fields mean."
)
def check(log: LogPlace | None, mapping: Path | None) -> None:
    """Read a sample of LOG and show what is understood, and what would be quarantined. Nothing is saved.

    Without LOG: the last closed hour of the configured source. For a log with other fields, a mapping is proposed.
    """
    from foreshard.stages.observing.check_log import check_log
    from foreshard.stores.files.mapping_file import read_mapping
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        found = check_log(wiring, log, read_mapping(mapping) if mapping else None)
    _show(found, str(log) if log else "the last closed hour")


def _show(found: LogCheck, label: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(f"{label}: {found.records:,} records read, {found.accepted:,} would be counted"))
    for name in ("column", "from the field", "given", "distinct", "for example"):
        table.add_column(name, justify="right" if name in {"given", "distinct"} else "left", overflow="fold")
    for one in found.columns:
        cells = (one.column, one.field, f"{one.given:,}", f"{one.distinct:,}", ", ".join(one.examples))
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)
    if found.first and found.last:
        click.echo(f"times from {found.first:%Y-%m-%d %H:%M:%SZ} to {found.last:%Y-%m-%d %H:%M:%SZ}")
    for reason, number in found.reasons.items():
        click.echo(f"would be quarantined: {number:,} × {reason}")
    if found.unknown_types:
        shown = ", ".join(f"{name} ({number:,})" for name, number in found.unknown_types.items())
        click.echo(f"unknown request types: {shown}; map them, or add them to FORESHARD_OBSERVE__REQUEST_TYPES")
    for note in found.notes:
        click.echo(note)
    if found.proposal:
        click.echo("proposed mapping (save it, correct it, and give it with --mapping):\n\n" + found.proposal)
