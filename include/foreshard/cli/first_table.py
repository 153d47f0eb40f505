"""``foreshard table init``: publish the first routing table of a deployment."""

from __future__ import annotations

from pathlib import Path

import click

from foreshard.cli.keys import NO_INDEX, make_indexes
from foreshard.model.key_space import DEFAULT_SLOTS


@click.command("init")
@click.option("--placements", type=click.Path(path_type=Path), help="CSV file (key,partition) of existing keys.")
@click.option(
    "--unlisted-on",
    "unlisted_on",
    multiple=True,
    help="Partition for keys without a place of their own; repeat it to spread their slots over several. Default: all.",
)
@click.option("--slots", default=DEFAULT_SLOTS, show_default=True, help="Number of slots, a power of two. It never changes.")
@click.option("--dry-run", is_flag=True, help="Print what would be published, and publish nothing.")
@NO_INDEX
def init(placements: Path | None, unlisted_on: tuple[str, ...], slots: int, dry_run: bool, no_index: bool) -> None:
    """Publish version 1 of the routing table. Register the partitions first.

    The sharded collections get a hashed index on their key field first; it finds the documents of a slot.
    If all data are on one partition so far, name it with --unlisted-on: every key is then there until it is moved.
    """
    from collections import Counter

    from foreshard.stages.first_table import plan_first_table, publish_first_table, read_placements
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        known = read_placements(placements, wiring.key_type) if placements else {}
        if not dry_run and not no_index:
            make_indexes(wiring, [partition.partition_id for partition in wiring.registry.partitions()])
        made = (plan_first_table if dry_run else publish_first_table)(wiring, known, unlisted_on, slots)
    owners = Counter(placement.primary for placement in made.slots.placements)
    where = ", ".join(f"{name} {count:,}" for name, count in sorted(owners.items()))
    done = "would be published" if dry_run else "published"
    click.echo(f"version 1 {done}: {slots:,} slots ({where}), {len(made.placements):,} keys listed")
