"""``foreshard applier``: the process that replicates changes to shadows and cares for moves."""

from __future__ import annotations

import signal
import threading
import time

import click

from foreshard.errors import ForeshardError
from foreshard.wiring import Wiring

MERGE_EVERY = 2.0


@click.command()
@click.option("--once", is_flag=True, help="Exit once every shadow has the changes made until now.")
@click.option("--seconds", type=click.FloatRange(min=0), default=None, help="Exit after this many seconds.")
@click.option("--every", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between status lines.")
def applier(once: bool, seconds: float | None, every: float) -> None:
    """Replicate the changes of shadowed keys to their shadows, and care for switched moves, until SIGTERM.

    Several processes can run; one works and the others stand by. It also lets a partition take writes again where a mover died.
    """
    with Wiring() as wiring:
        if once:
            _once(wiring, 60.0 if seconds is None else seconds)
        else:
            _run(wiring, seconds, every)


def _once(wiring: Wiring, seconds: float) -> None:
    from foreshard.stages.conflicts import merge_conflicts
    from foreshard.stages.shadow_apply import apply_bounded

    done = apply_bounded(wiring, seconds)
    merge_conflicts(wiring)
    click.echo(
        f"{done.fresh} shadows fresh, {done.stale} stale; "
        f"captured {done.captured}, applied {done.applied}, copied {done.copied}"
    )
    if done.stale:
        trouble = "; ".join(done.problems) or "see foreshard shadows list"
        raise click.ClickException(f"{done.stale} shadows did not catch up in {seconds:g} s: {trouble}")


def _run(wiring: Wiring, seconds: float | None, every: float) -> None:
    from foreshard.stages.moving.watchdog import MoveWatchdog
    from foreshard.stages.shadow_apply import make_replicator

    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    replicator = make_replicator(wiring, stop)
    thread = threading.Thread(target=replicator.run, name="foreshard-replicator")
    thread.start()
    begun = said = merged = time.monotonic()
    try:
        with MoveWatchdog(wiring, care=True):
            while not stop.wait(0.2):
                now = time.monotonic()
                if replicator.status.active and now - merged >= MERGE_EVERY:
                    merged = now
                    _merge(wiring)
                if now - said >= every:
                    said = now
                    click.echo(f"applier: {replicator.status.line}")
                if seconds is not None and now - begun >= seconds:
                    break
    finally:
        stop.set()
        thread.join()
        click.echo(f"applier: stopped; {replicator.status.totals}")


def _merge(wiring: Wiring) -> None:
    """Run the merge functions on open conflicts. Errors are printed, and it is tried again later."""
    from pymongo.errors import PyMongoError

    from foreshard.stages.conflicts import merge_conflicts

    try:
        merge_conflicts(wiring)
    except (ForeshardError, PyMongoError) as error:
        click.echo(f"applier: conflicts are not merged yet: {str(error).splitlines()[0]}", err=True)
