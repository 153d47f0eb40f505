"""``foreshard keys``: check the partitionable keys in the documents."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

NO_INDEX = click.option("--no-index", is_flag=True, help="Do not make the hashed indexes; moves of slots then read more.")


@click.group()
def keys() -> None:
    """Check the partitionable keys in the documents."""


@keys.command()
@click.option("--sample", type=click.IntRange(min=1), help="Look at this many random documents of each collection, not all.")
def check(sample: int | None) -> None:
    """Count documents whose key is missing, null, an array, floating-point or of another type than key_type.

    Exits with 1 if there are any. Run it before the loop is scheduled.
    """
    from foreshard.stages.keys import STORE_AS, check_keys
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        found = check_keys(wiring, sample)
        key_type = wiring.key_type
    for finding in found.findings:
        click.echo(str(finding))
    how = f"a random sample of at most {sample:,} documents each" if sample else "all documents"
    where = f"{found.collections} collections on {found.partitions} partitions, {how}: {found.documents:,} documents"
    good = f"; every key is {STORE_AS[key_type]}" if not found.findings else ""
    click.echo(f"checked {where}{good}")
    sys.exit(1 if found.findings else 0)


def make_indexes(wiring: Wiring, partition_ids: Iterable[str]) -> None:
    """Create the missing hashed indexes of these partitions. Print one line for each."""
    from foreshard.stages.keys import make_hashed_indexes

    for collection, partition, made in make_hashed_indexes(wiring, partition_ids):
        cost = f"{made.documents:,} documents, {made.seconds:.1f} s, {made.size:,} bytes"
        click.echo(f"{collection.namespace} on {partition}: hashed index on {collection.key_field} made ({cost})")
