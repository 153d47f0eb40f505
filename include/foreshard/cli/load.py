"""``foreshard load``: measure and show the partitions' current loads."""

from __future__ import annotations

import click


@click.group()
def load() -> None:
    """Measure and show the partitions' current loads."""


@load.command()
@click.option("--once", is_flag=True, help="Measure one interval, print the loads, and stop.")
def report(once: bool) -> None:
    """Measure and report the load of every partition every few seconds, until stopped."""
    import logging
    import signal
    import threading

    from foreshard.stages.moving.watchdog import MoveWatchdog
    from foreshard.wiring import Wiring

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Wiring() as wiring:
        reporter = wiring.load_reporter
        if not once:
            click.echo(f"reporting loads every {wiring.settings.sidecar.load_interval.total_seconds():g} s")
            with MoveWatchdog(wiring, care=False):
                reporter.run(stop)
            return
        reporter.report_once()
        stop.wait(wiring.settings.sidecar.load_interval.total_seconds())
        for one in reporter.report_once():
            click.echo(f"{one.partition_id}: " + (f"{one.load:.3f} cost/s" if one.reachable else "does not answer"))
        reporter.close()


@load.command()
def show() -> None:
    """Show the last report of every partition."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table

    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        capacity = {p.partition_id: p.capacity for p in wiring.registry.partitions()}
        loads = wiring.loads.current()
    table = Table("partition", "answers")
    for column in ("load (cost/s)", "of capacity", "age (s)"):
        table.add_column(column, justify="right")
    for one in loads:
        size = capacity.get(one.partition_id)
        age = (datetime.now(UTC) - one.reported_at).total_seconds()
        of_capacity = f"{one.load / size:.0%}" if size else "not registered"
        figures = (f"{one.load:.3f}", of_capacity) if one.reachable else ("unknown", "unknown")
        table.add_row(one.partition_id, "yes" if one.reachable else "[red]no", *figures, f"{age:.1f}")
    Console().print(table)
