"""``foreshard table init``: publish the first routing table of a deployment."""

from __future__ import annotations

from pathlib import Path

import click

from foreshard.cli.keys import NO_INDEX, make_indexes


@click.command("init")
@click.option("--placements", type=click.Path(path_type=Path), help="CSV file (key,partition) of existing keys.")
@click.option(
    "--unlisted-on",
    "unlisted_on",
    multiple=True,
    help="Partition for unlisted keys; repeat it to hash them over several. Default: all.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be published, and publish nothing.")
@NO_INDEX
def init(placements: Path | None, unlisted_on: tuple[str, ...], dry_run: bool, no_index: bool) -> None:
    """Publish version 1 of the routing table. Register the partitions first.

    The sharded collections get a hashed index on their key field first; it finds the documents of a slot.
    If all data are on one partition so far, name it with --unlisted-on: every key is then there until it is moved.
    """
    from datetime import UTC, datetime

    from foreshard.stages.first_table import first_table, publish_first_table, read_placements
    from foreshard.wiring import Wiring

    listed = read_placements(placements) if placements else {}
    with Wiring() as wiring:
        if dry_run:
            registered = {partition.partition_id: partition for partition in wiring.registry.partitions()}
            made = first_table(registered, listed, unlisted_on, datetime.now(UTC))
        else:
            if not no_index:
                make_indexes(wiring, [partition.partition_id for partition in wiring.registry.partitions()])
            made = publish_first_table(wiring, listed, unlisted_on)
    where = ", ".join(made.default_rule.partitions)
    done = "would be published" if dry_run else "published"
    click.echo(f"version 1 {done}: {len(made.placements):,} keys listed, unlisted ones on {where}")
