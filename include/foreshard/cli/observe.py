"""``foreshard observe``: import a log's history, observe an hour without Airflow, and show a counted hour."""

from __future__ import annotations

from datetime import datetime
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.accepting import accept_command
from foreshard.cli.arguments.hours import HOUR
from foreshard.cli.arguments.log_place import LOG_PLACE
from foreshard.cli.observing.check_log import check
from foreshard.cli.observing.shown_hour import show
from foreshard.cli.observing.weights import weights
from foreshard.cli.progress import bars

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace
    from foreshard.settings import Settings
    from foreshard.stages.log_import import ImportSummary
    from foreshard.wiring import Wiring

MOST_LINES = 10
"""Lines of one kind that an import prints."""


@click.group()
def observe() -> None:
    """Count the accesses of a log or an hour."""


observe.add_command(check)
observe.add_command(show)
observe.add_command(weights)
observe.add_command(accept_command("access_log", "the records", "clear `gate` in Airflow, or foreshard observe hour HOUR"))


@observe.command("import")
@click.argument("log", type=LOG_PLACE)
@click.option("--since", type=HOUR, default=None, help="First hour (UTC); default: the log's first.")
@click.option("--until", type=HOUR, default=None, help="Hour to stop before (UTC); default: after the log's last.")
@click.option("--source", default=None, help="Name of the source; default: LOG's path. An import replaces only its own hours.")
@click.option("--replace", is_flag=True, help="Also replace hours that another source gave.")
@click.option(
    "--mapping", type=click.Path(path_type=Path), default=None, help="TOML file that says what the log's fields mean."
)
@click.option("--because", default="", help="Count the hours that the gate refuses as well, for this reason.")
@click.option("--by", default=getuser, show_default="your login", help="Name of the person who accepts them.")
def import_log(
    log: LogPlace,
    since: datetime | None,
    until: datetime | None,
    source: str | None,
    replace: bool,
    mapping: Path | None,
    because: str,
    by: str,
) -> None:
    """Import LOG as history: a file (Parquet, CSV, TSV or JSON lines with the standard columns), a folder of
    files, objects (`s3://bucket/logs`), or a profiler (`mongodb://host/shop`).

    User and session ids are pseudonymised. Each hour is judged by the hours before it, like an observed one.
    """
    from foreshard.stages.judging.history import AcceptedBy
    from foreshard.stages.log_import import ImportSource, import_history
    from foreshard.wiring import Wiring

    if because.strip() and not by.strip():
        raise click.UsageError("refused hours are accepted only by a named person: --by NAME")
    with Wiring(_with_mapping(mapping)) as wiring, bars(transient=True) as bar:
        _require_control(wiring)
        task = bar.add_task(f"reading {getattr(log, 'name', log)}", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, description="importing hours", completed=done, total=total)

        accepted = AcceptedBy(by.strip(), because.strip()) if because.strip() else None
        found = import_history(wiring, log, since, until, report, ImportSource(source, replace, accepted))
    click.echo(
        f"imported {found.accepted:,} accesses of {found.keys:,} keys in {found.hours:,} hours, "
        f"{found.since:%Y-%m-%dT%HZ} to {found.until:%Y-%m-%dT%HZ}; {found.pairs:,} hourly co-access pairs"
    )
    if found.kept:
        click.echo(f"{found.kept:,} hours without a record in this log were counted before and are kept")
    click.echo(found.account)
    if found.quarantined:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(found.reasons.items()))
        click.echo(f"{found.quarantined:,} records were quarantined: {reasons}")
    if found.duplicates:
        click.echo(f"{found.duplicates:,} records were delivered twice and count once")
    if found.changed != found.accepted:
        click.echo(f"accepted records of these hours before: {found.accepted - found.changed:,} (change: {found.changed:+,})")
    for note in found.notes:
        click.echo(note)
    _echo_judgement(found)


def _echo_judgement(found: ImportSummary) -> None:
    """Print what the gate found in the hours of an import: refusals last."""
    for line in found.warnings[:MOST_LINES]:
        click.echo(f"warning: {line}")
    if len(found.warnings) > MOST_LINES:
        click.echo(f"… and {len(found.warnings) - MOST_LINES:,} more warnings")
    for result in found.refused[:MOST_LINES]:
        click.echo(f"refused {result.hour:%Y-%m-%dT%HZ}: {'; '.join(result.failures)}")
    if found.refused:
        count = f"{len(found.refused):,} hours were refused by their gate and are not counted"
        click.echo(f"{count}; if they are right, import again with --because 'REASON'")


@observe.command("hour")
@click.argument("hour", type=HOUR)
@click.option("--gate/--no-gate", default=True, help="Check the hour with its gate before counting it.")
@click.option("--replace", is_flag=True, help="Replace the hour even if another source gave it.")
def observe_hour(hour: datetime, gate: bool, replace: bool) -> None:
    """Read, check and count the closed HOUR (UTC, such as 2014-11-20T08)."""
    from foreshard.stages.observe import extract_hour, tally_hour
    from foreshard.stages.observing.gate import gate_access_log
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        _require_control(wiring)
        raw = extract_hour(wiring, hour, replace)
        click.echo(
            f"{hour:%Y-%m-%dT%HZ}: {raw.records:,} records read: {raw.accepted:,} records accepted, "
            f"{raw.quarantined:,} quarantined, {raw.duplicates:,} duplicates"
        )
        for note in raw.notes:
            click.echo(note)
        if gate:
            for warning in gate_access_log(wiring, hour).warnings:
                click.echo(f"warning: {warning}")
        counted = tally_hour(wiring, hour)
    click.echo(
        f"counted {counted.accesses:,} accesses of {counted.keys:,} keys, cost {counted.cost:,.1f}, {counted.pairs:,} pairs"
    )
    click.echo(counted.account)


def _with_mapping(mapping: Path | None) -> Settings | None:
    """Return the settings with this mapping; None without one."""
    from foreshard.settings import Settings

    if mapping is None:
        return None
    settings = Settings.load()
    return settings.model_copy(update={"observe": settings.observe.model_copy(update={"access_log_mapping": mapping})})


def _require_control(wiring: Wiring) -> None:
    wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
