"""``foreshard moves``: list, run, stop, resume, revert and undo moves, and move keys and slots manually."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from foreshard.cli.arguments.hours import HOUR
from foreshard.cli.arguments.key_argument import KEY
from foreshard.cli.arguments.slot_range import SLOTS, units_of_arguments
from foreshard.cli.progress import bars
from foreshard.model.move_state import AFTER_SWITCH, ENDED, OPEN, MoveState

if TYPE_CHECKING:
    from datetime import datetime

    from foreshard.move.context import MoveSummary
    from foreshard.ports.move_journal import MoveRecord
    from foreshard.wiring import Wiring


@click.group()
def moves() -> None:
    """List and control moves of keys and slots."""


@moves.command("list")
@click.option("--hour", type=HOUR, default=None, help="Only moves of this hour's plan (UTC).")
@click.option("--all", "every", is_flag=True, help="Include moves that have ended.")
def list_moves(hour: datetime | None, every: bool) -> None:
    """List moves, oldest first: what each does, how far it is, and how long it will take."""
    from foreshard.stages.moving.progress import progress_of

    with _wiring() as wiring:
        states = () if every or hour is not None else OPEN
        records, limits = wiring.move_journal.find(states, hour), wiring.settings.migrate
    if not records:
        click.echo("no moves" if every or hour else "no open moves; --all lists the ended ones")
    for record in records:
        move = record.move
        doing = progress_of(record, _now(), limits).sentence
        click.echo(f"{record.move_id}  {record.state:<11}  {move.source} → {move.target}  {move.label}  {doing}")


@moves.command()
@click.argument("move_id")
def show(move_id: str) -> None:
    """Show one move: its reason, progress and history."""
    from foreshard.stages.moving.progress import progress_of

    with _wiring() as wiring:
        record, limits = wiring.move_journal.get(move_id), wiring.settings.migrate
    progress = progress_of(record, _now(), limits)
    move = record.move
    click.echo(f"{move.move_id}: {move.label} from {move.source} to {move.target}, {record.state}")
    click.echo(f"reason: {move.reason.sentence} ({move.reason.code})")
    click.echo(f"now: {progress.sentence}")
    for note in (*((record.error,) if record.error else ()), *progress.notes):
        click.echo(f"note: {note}")
    for entry in record.history:
        click.echo(f"  {entry.at:%Y-%m-%d %H:%M:%S.%f}  {entry.state:<11}  by {entry.event} (lease {entry.lease})")
    for name, value in sorted(record.counters.items()):
        click.echo(f"  {name.replace('_', ' ')}: {value:,}")


@moves.command()
@click.argument("move_id")
def run(move_id: str) -> None:
    """Run MOVE_ID until it has switched. Any other mover of it is superseded. Exit with 1 if it has not switched."""
    _watched(lambda stage, wiring, notify: stage.run_move(wiring, move_id, notify), AFTER_SWITCH)


@moves.command()
@click.argument("move_id", required=False)
@click.option("--all", "every", is_flag=True, help="All moves that have not ended.")
def stop(move_id: str | None, every: bool) -> None:
    """Ask the mover of MOVE_ID to pause at its next batch, but not between fence and switch, when apps wait."""
    from foreshard.stages import migrate

    if (move_id is None) is not every:
        raise click.UsageError("give a MOVE_ID or --all")
    with _wiring() as wiring:
        asked = migrate.stop_moves(wiring) if move_id is None else (migrate.stop_move(wiring, move_id),)
    for summary in asked:
        click.echo(
            f"{summary.move_id}: asked to pause in {summary.state}; resume it with `foreshard moves resume {summary.move_id}`"
        )


@moves.command()
@click.argument("move_id", required=False)
def resume(move_id: str | None) -> None:
    """Resume MOVE_ID; without it, every started move whose mover is silent. Exit with 1 if one has not switched."""
    if move_id is None:
        _watched(lambda stage, wiring, notify: stage.resume_moves(wiring, notify), AFTER_SWITCH)
    else:
        _watched(lambda stage, wiring, notify: stage.run_move(wiring, move_id, notify), AFTER_SWITCH)


@moves.command()
@click.argument("move_id")
@click.option("--reason", default="requested", help="Reason for the journal.")
def revert(move_id: str, reason: str) -> None:
    """Revert MOVE_ID before its switch: the source keeps serving, and the target is cleaned."""
    _watched(lambda stage, wiring, notify: stage.revert_move(wiring, move_id, reason, notify), (MoveState.REVERTED,))


@moves.command()
@click.argument("move_id")
def undo(move_id: str) -> None:
    """Move a switched move's units back to their source."""
    from foreshard.stages import manual_moves

    _watched(lambda _stage, wiring, notify: manual_moves.undo_move(wiring, move_id, notify), AFTER_SWITCH)


@moves.command()
@click.option("--wait/--no-wait", default=True, help="Wait until each copy may be removed.")
def clean(wait: bool) -> None:
    """Remove the source's copy of every switched move, once it was kept for long enough and nobody reads it."""
    _watched(lambda stage, wiring, notify: stage.clean_moves(wiring, wait=wait, notify=notify), ENDED)


@moves.command()
@click.option("--bytes-per-second", type=click.FloatRange(min=0), help="Bytes that one move copies in a second (0: no limit).")
@click.option("--documents-per-second", type=click.FloatRange(min=0), help="The same for documents.")
@click.option("--hold/--go-on", default=None, help="Let no move copy anything, or let them go on.")
def throttle(bytes_per_second: float | None, documents_per_second: float | None, hold: bool | None) -> None:
    """Change the limits of all moves, running ones too. Without options, print them."""
    with _wiring() as wiring:
        limits = wiring.migration_limits.change(
            bytes_per_second=bytes_per_second, documents_per_second=documents_per_second, hold=hold
        )
        most = wiring.settings.migrate.parallel_moves
    for name, limit in (("bytes", limits.bytes_per_second), ("documents", limits.documents_per_second)):
        click.echo(f"{name} per second and move: {limit:,.0f}" if limit else f"{name} per second and move: no limit")
    click.echo(f"moves at once from a partition, and to a partition: {most}")
    click.echo("all moves are held; `foreshard moves throttle --go-on` ends that" if limits.hold else "moves are not held")


@moves.command()
@click.argument("keys", nargs=-1, type=KEY, metavar="[KEY]...")
@click.argument("target")
@click.option("--slot", "slots", type=SLOTS, multiple=True, help="Also move this slot, or slots from-to. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Print what would be moved, and move nothing.")
def move(keys: tuple[str, ...], target: str, slots: tuple[tuple[int, ...], ...], dry_run: bool) -> None:
    """Move keys and slots to the partition TARGET now, as one move, independent of the plan.

    A slot is moved without its listed keys.
    """
    from foreshard.stages import manual_moves

    with _wiring() as wiring:
        wanted = units_of_arguments(wiring, keys, slots)
        found = manual_moves.describe_move(wiring, wanted, target) if dry_run else None
    if found is None:
        _watched(lambda _stage, wiring, notify: manual_moves.move_units(wiring, wanted, target, None, notify), AFTER_SWITCH)
        return
    total = sum(found.documents.values())
    click.echo(f"{found.label} is on {found.owner} (epoch {found.epoch}); {total:,} documents would move to {target}:")
    for namespace, number in found.documents.items():
        click.echo(f"  {namespace}: {number:,}")
    if found.left_out:
        click.echo(f"{found.left_out:,} listed keys of these slots would stay where they are")
    if found.problem:
        click.echo(f"it would be refused: {found.problem}")
        raise SystemExit(1)


def _watched(action: Callable[[Any, Wiring, Callable[[MoveRecord], None]], Any], wanted: Collection[MoveState]) -> None:
    """Run a stage function with a progress bar per move, and print each move's result.

    Exit with 1 unless each move is in one of the ``wanted`` states.
    """
    from rich.progress import TaskID

    from foreshard.stages import migrate
    from foreshard.stages.moving.progress import progress_of

    with _wiring() as wiring, bars(transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def notify(record: MoveRecord) -> None:
            if record.move_id not in tasks:
                tasks[record.move_id] = bar.add_task("", total=None)
            progress = progress_of(record, _now(), wiring.settings.migrate)
            doing = f"{record.move.label}: {progress.sentence}"
            bar.update(tasks[record.move_id], description=doing, completed=progress.documents, total=progress.total)

        done = action(migrate, wiring, notify)
    summaries: tuple[MoveSummary, ...] = done if isinstance(done, tuple) else (done,)
    for summary in summaries:
        click.echo(_sentence(summary))
    if not summaries:
        click.echo("nothing to do")
    if any(summary.state not in wanted for summary in summaries):
        raise SystemExit(1)


def _sentence(summary: MoveSummary) -> str:
    pause = f", writes paused {summary.pause_ms:.0f} ms" if summary.pause_ms is not None else ""
    why = f": {summary.error}" if summary.error else ""
    return (
        f"{summary.move_id}: {summary.label} {summary.source} → {summary.target} is {summary.state}{why} "
        f"({summary.documents:,} documents, {summary.bytes:,} bytes{pause})"
    )


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)


@contextmanager
def _wiring() -> Iterator[Wiring]:
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        yield wiring
