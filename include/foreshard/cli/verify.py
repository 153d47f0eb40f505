"""``foreshard verify``: compare documents with the routing table at any time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.hours import HOUR
from foreshard.cli.arguments.key_argument import KEY
from foreshard.cli.arguments.slot_range import SLOTS, units_of_arguments
from foreshard.cli.progress import bars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from foreshard.ports.verification import DocumentDifference
    from foreshard.wiring import Wiring

SHOWN = 20
"""Differences that are printed. The report has all."""


@click.command()
@click.argument("keys", nargs=-1, type=KEY, metavar="[KEY]...")
@click.option("--slot", "slots", type=SLOTS, multiple=True, help="This slot, or slots from-to. May be repeated.")
@click.option("--hour", type=HOUR, help="The slots whose turn it is in this hour, and those that moved in it.")
@click.option("--all", "everything", is_flag=True, help="All documents.")
@click.option("--resume", is_flag=True, help="With --all: go on where the last one stopped.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write each difference to this file (JSON lines)."
)
def verify(
    keys: tuple[str, ...],
    slots: tuple[tuple[int, ...], ...],
    hour: datetime | None,
    everything: bool,
    resume: bool,
    report: Path | None,
) -> None:
    """Compare documents with the routing table: each once, at its owner, and shadows equal to their primary copies.

    A KEY is verified with its whole slot. Apps may write and keys may move meanwhile. Exit with 1 if documents differ.
    """
    if sum([bool(keys or slots), hour is not None, everything]) != 1:
        raise click.UsageError("name KEYs or --slot, or --hour, or --all")
    if resume and not everything:
        raise click.UsageError("--resume needs --all")
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        if hour is not None:
            _verify_hour(wiring, hour)
            return
        with _reporting(report, append=resume) as note:
            figures = _verify(wiring, None if everything else units_of_arguments(wiring, keys, slots), resume, note)
        _show(figures, wiring.routing.space().slots)
    if figures["misplaced"] or figures["duplicated"] or figures["shadow_differences"]:
        raise SystemExit(1)


def _verify_hour(wiring: Wiring, hour: datetime) -> None:
    from foreshard.stages.publish import verify_hour

    for name, figures in verify_hour(wiring, hour).figures():
        click.echo(f"{name}: {figures}")


def _verify(
    wiring: Wiring, units: list[str] | None, resume: bool, note: Callable[[DocumentDifference], None]
) -> dict[str, int]:
    from foreshard.stages.verify import verify_all, verify_units

    if units is not None:
        return verify_units(wiring, units, note)
    with bars("slots", transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        return verify_all(wiring, note, lambda done, every: bar.update(task, completed=done, total=every), resume=resume)


@contextmanager
def _reporting(report: Path | None, *, append: bool) -> Iterator[Callable[[DocumentDifference], None]]:
    """Print the first differences, and write all of them to the report as they are found."""
    shown = 0
    file = report.open("a" if append else "w", encoding="utf-8") if report else None

    def note(difference: DocumentDifference) -> None:
        nonlocal shown
        shown += 1
        if shown <= SHOWN:
            click.echo(difference.sentence)
        if file is not None:
            file.write(json.dumps(asdict(difference), ensure_ascii=False) + "\n")
            file.flush()

    try:
        yield note
    finally:
        if file is not None:
            file.close()
        if shown > SHOWN:
            click.echo(
                f"{shown - SHOWN:,} more differences; " + (f"all are in {report}" if report else "--report FILE lists them")
            )


def _show(figures: Mapping[str, int], every: int) -> None:
    for name, number in figures.items():
        of = f" of {every:,}" if name == "slots" else ""
        click.echo(f"{name.replace('_', ' ')}: {number:,}{of}")
