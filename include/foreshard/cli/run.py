"""``foreshard run hour``: the whole loop for one hour, in one process, in the order of the DAGs and without Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.hours import HOUR
from foreshard.model import ONE_HOUR

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

OLD = timedelta(hours=3)
"""An hour that ended longer ago is old, as in the DAG ``rebalance``."""

Say = Callable[[str], None]


@click.group()
def run() -> None:
    """Run the loop without Airflow."""


@run.command("hour")
@click.argument("hour", type=HOUR)
@click.option("--act", is_flag=True, help="Carry the plan out: move, shadow, publish and clean. Default: a dry run.")
@click.option("--act-on-old-hours", is_flag=True, help="With --act: also for an old hour, or while newer hours are counted.")
@click.option("--recount", is_flag=True, help="Read the access log again although HOUR has been counted.")
def run_hour(hour: datetime, act: bool, act_on_old_hours: bool, recount: bool) -> None:
    """Count the closed HOUR (UTC), forecast, score and plan. With --act, carry the plan out.

    Each stage prints a line with its seconds. A failed gate ends the run with exit code 1. A second run continues: it keeps the
    count, and moves and shadows go on from their journal. Without --act nothing is moved or published.
    """
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        _require_runnable(wiring, hour, act=act, act_on_old_hours=act_on_old_hours)
        started, stages = time.monotonic(), _HourStages(wiring, hour)
        if recount or not wiring.tallies.counts([hour]):
            stages.observe()
        stages.forecast()
        stages.plan(act=act, act_on_old_hours=act_on_old_hours)
        if act:
            stages.move()
            stages.shadow()
            stages.publish()
        click.echo(
            f"done in {time.monotonic() - started:.1f} s" + ("" if act else "; nothing was moved: --act carries the plan out")
        )


def _require_runnable(wiring: Wiring, hour: datetime, *, act: bool, act_on_old_hours: bool) -> None:
    """Refuse an hour that is not over, and to act on an old one. The hour decides, as in the DAGs."""
    from foreshard.errors import HourRefused

    now = datetime.now(UTC)
    if hour + ONE_HOUR > now:
        raise HourRefused(hour, "is not over yet", f"run it after {hour + ONE_HOUR:%H:%MZ}")
    if not act or act_on_old_hours:
        return
    remedy = "leave --act out, or let it act with --act-on-old-hours"
    if now - (hour + ONE_HOUR) > OLD:
        raise HourRefused(hour, f"ended more than {OLD.seconds // 3600} hours ago", remedy)
    if newer := [found for found in wiring.tallies.hours(hour, now) if found > hour]:
        raise HourRefused(hour, f"is not the newest: {max(newer):%Y-%m-%dT%HZ} is counted", remedy)


@dataclass(frozen=True)
class _HourStages:
    """The stages of one hour. Each prints a line when it has ended."""

    wiring: Wiring
    hour: datetime

    def observe(self) -> None:
        """Read, check and count the hour's log, and earlier hours again if late records have arrived."""
        from foreshard.stages import observe
        from foreshard.stages.observing import amend
        from foreshard.stages.observing.gate import gate_access_log

        with self._timed("extract") as say:
            raw = observe.extract_hour(self.wiring, self.hour)
            say("; ".join((f"{raw.accepted:,} records accepted, {raw.quarantined:,} quarantined", *raw.notes)))
        with self._timed("gate") as say:
            say("; ".join(gate_access_log(self.wiring, self.hour).warnings))
        with self._timed("tally") as say:
            counted = observe.tally_hour(self.wiring, self.hour)
            say(f"{counted.accesses:,} accesses of {counted.keys:,} keys, {counted.pairs:,} pairs; {counted.account}")
        with self._timed("amend") as say:
            say("; ".join(amend.amend_hours(self.wiring, self.hour).notes) or "no earlier hour has changed")

    def forecast(self) -> None:
        """Forecast every unit, check the forecasts, and score the partitions."""
        from foreshard.stages import forecast, score

        with self._timed("prepare") as say:
            chunks = forecast.prepare_chunks(self.wiring, self.hour)
            say(f"{len(chunks)} chunks")
        with self._timed("fit") as say:
            fitted = [forecast.fit_chunk(self.wiring, self.hour, chunk) for chunk in chunks]
            say(f"{sum(summary.keys for summary in fitted):,} keys and slots forecast")
        with self._timed("gate") as say:
            say("; ".join(forecast.gate_forecasts(self.wiring, self.hour).warnings))
        with self._timed("score"):
            score.score_partitions(self.wiring, self.hour)

    def plan(self, *, act: bool, act_on_old_hours: bool) -> None:
        """Make the plan, show it, and check it."""
        from foreshard.cli.plan import show_plan
        from foreshard.stages import plan

        with self._timed("plan") as say:
            made = plan.plan_hour(self.wiring, self.hour, dry_run=not act, act_on_old_hours=act_on_old_hours)
            say(f"{made.moves} moves, {made.shadows} shadows, worst LPS {made.worst_lps_before} → {made.worst_lps_after}")
        show_plan(self.wiring.plans.load(self.hour))
        with self._timed("gate") as say:
            say("; ".join(plan.gate_plan(self.wiring, self.hour).warnings))

    def move(self) -> None:
        """Run the plan's moves, one after the other."""
        from foreshard.stages import migrate

        with self._timed("start") as say:
            moves = migrate.start_moves(self.wiring, self.hour)
            say(f"{len(moves)} moves to run")
        for move_id in moves:
            with self._timed("move") as say:
                done = migrate.run_move(self.wiring, move_id)
                why = f": {done.error}" if done.error else ""
                say(f"{done.label} {done.source} → {done.target} is {done.state}{why} ({done.documents:,} documents)")

    def shadow(self) -> None:
        """Make the plan's shadows."""
        from foreshard.stages import shadow

        for shadow_id in shadow.start_shadows(self.wiring, self.hour):
            with self._timed("shadow") as say:
                done = shadow.run_shadow(self.wiring, shadow_id)
                say(f"{done.shadow_id} is {done.state}")

    def publish(self) -> None:
        """Publish the shadows, check the table, clean what no sidecar reads any more, and verify the documents."""
        from foreshard.stages import migrate, publish, score

        with self._timed("publish") as say:
            published = publish.publish_hour(self.wiring, self.hour)
            say(f"table version {published.version}: {published.note}")
        with self._timed("gate") as say:
            say("; ".join(publish.gate_table(self.wiring, self.hour).warnings))
        with self._timed("clean") as say:
            say(f"{len(migrate.clean_moves(self.wiring, self.hour, wait=False))} moves cleaned")
        with self._timed("verify") as say:
            score.refresh_predicted_load(self.wiring, self.hour)
            say("; ".join(f"{name}: {found}" for name, found in publish.verify_hour(self.wiring, self.hour).figures()))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[Say]:
        said: list[str] = []
        begun = time.monotonic()
        yield said.append
        click.echo(f"{stage:<8} {time.monotonic() - begun:7.1f} s  {' '.join(said)}".rstrip())
