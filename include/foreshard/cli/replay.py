"""``foreshard replay``: replay a log under several policies, and write synthetic logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.progress import bars

if TYPE_CHECKING:
    from foreshard.lab.side_by_side import PolicyProgress
    from foreshard.stages.experiments.replay import Replayed

FILE = click.Path(path_type=Path, dir_okay=False)


class _RunByDefault(click.Group):
    """A group whose first argument is a subcommand, or else the log for ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``run`` before a first argument that is neither a subcommand nor a help option."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(cls=_RunByDefault)
def replay() -> None:
    """Replay a log under several policies: `foreshard replay LOG [options]` (see `foreshard replay run --help`)."""


@replay.command("run")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--partitions", default=4, show_default=True, help="Equal partitions, in the log's locations.")
@click.option(
    "--utilisation", default=0.7, show_default=True, help="Load of the median day's peak hour, as a share of all capacity."
)
@click.option("--layout", default=None, type=FILE, help="JSON file of partitions to use instead.")
@click.option("--policies", default=None, help="Policies, separated by commas; default: all.")
@click.option("--days", default=None, type=click.IntRange(min=1), help="Replay only the log's last days.")
@click.option("--locations", default=None, type=FILE, help="CSV file name,latitude,longitude; default: <log>-locations.csv.")
@click.option("--rates", default=None, type=FILE, help="Rates of a synthetic log, for the oracle.")
@click.option("--processes", default=None, type=click.IntRange(min=1), help="Policies to run at once; default: one per core.")
@click.option("--capacity/--no-capacity", default=True, help="Find each policy's least capacity; takes some more replays.")
@click.option(
    "--steps/--no-steps", default=None, help="Loads in steps of five minutes, or by the hour; default: as the log allows."
)
@click.option("--forecaster", default=None, help="Forecast engine of `predictive`; default: the setting.")
@click.option("--json", "figures", default=None, type=FILE, help="File for the figures.")
@click.option("--html", "page", default=None, type=FILE, help="File for the page.")
def run(
    log: Path,
    partitions: int,
    utilisation: float,
    layout: Path | None,
    policies: str | None,
    days: int | None,
    locations: Path | None,
    rates: Path | None,
    processes: int | None,
    capacity: bool,
    steps: bool | None,
    forecaster: str | None,
    figures: Path | None,
    page: Path | None,
) -> None:
    """Replay LOG (Parquet, CSV or JSON Lines with the standard columns). The hours before the replay train the forecasts."""
    from foreshard.stages.experiments.replay import replay_log, save_replay
    from foreshard.stages.experiments.replay_input import POLICIES, ReplayRequest
    from foreshard.wiring import Wiring

    chosen = POLICIES if policies is None else tuple(name.strip() for name in policies.split(",") if name.strip())
    request = ReplayRequest(
        partitions, utilisation, layout, chosen, days, locations, rates, processes, capacity, steps, forecaster
    )
    with Wiring() as wiring, _progress() as report:
        replayed = replay_log(wiring, log, request, report)
    save_replay(replayed, figures, page)
    _print(replayed)
    for path in (figures, page):
        if path is not None:
            click.echo(f"wrote {path}")


@replay.command("synthesise")
@click.argument("name")
@click.option("--output", required=True, type=FILE, help="File to write (.parquet); rates and locations are written beside it.")
@click.option("--keys", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--days", default=70, show_default=True, type=click.IntRange(min=3))
@click.option("--seed", default=0, show_default=True, type=int)
def synthesise(name: str, output: Path, keys: int, days: int, seed: int) -> None:
    """Write the synthetic log NAME: diurnal, launches, groups or jobs."""
    from foreshard.stages.experiments.replay_synthetic import write_synthetic_log

    for path in write_synthetic_log(name, output, keys, days, seed):
        click.echo(f"wrote {path}")


@contextmanager
def _progress() -> Iterator[PolicyProgress]:
    """Show a progress bar per policy on stderr."""
    from rich.console import Console
    from rich.progress import TaskID

    tasks: dict[str, TaskID] = {}
    with bars("hours", console=Console(stderr=True)) as shown:

        def report(policy: str, done: int, of: int) -> None:
            if policy not in tasks:
                tasks[policy] = shown.add_task(policy, total=of)
            shown.update(tasks[policy], completed=done, total=of)

        yield report


def _print(replayed: Replayed) -> None:
    from foreshard.lab.page import SHORT_HEADINGS, figure

    for note in replayed.notes:
        click.echo(f"note: {note}")
    rows: list[list[str]] = [["policy", *SHORT_HEADINGS.values()]]
    for policy, figures in replayed.document["policies"].items():
        rows.append([policy, *(figure(name, figures[name]) for name in SHORT_HEADINGS)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        click.echo("  ".join((first.ljust(widths[0]), *cells)))
