"""The demo from end to end: start the stack, load a real year of trips, run the loop once in Airflow, show and check it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from rich.console import Console

from foreshard.client import RoutedClient
from foreshard.demo import _report as report
from foreshard.demo._app import BackgroundRiders, RidersApp, ride_in_real_time, rides_of
from foreshard.demo._check import AppCheck, check_app
from foreshard.demo._documents import station_documents
from foreshard.demo._loop import LOOP, UPKEEP, LoopTimes, run_loop, wait_for_dags
from foreshard.demo._sample import load_sample
from foreshard.demo.console import Steps
from foreshard.demo.demo_layout import PARTITION_LOCATIONS, DemoLayout
from foreshard.demo.stages import (
    COLLECTIONS,
    REQUEST_TYPES,
    THREADS,
    DemoOptions,
    Slice,
    cut,
    load_app,
    load_history,
    play_live,
)
from foreshard.errors import ForeshardError, VerificationFailed
from foreshard.model import hour_floor
from foreshard.settings import Settings
from foreshard.stack.airflow import USER
from foreshard.stack.airflow_api import AirflowApi
from foreshard.stack.embedded import EmbeddedStack, project_root
from foreshard.stack.ports import PortPlan
from foreshard.stages.publish import VerifySummary, verify_hour
from foreshard.wiring import Wiring

BACKGROUND_RIDES_PER_SECOND = 5.0
WEEKS_AHEAD = timedelta(weeks=6)


@dataclass(frozen=True)
class DemoResult:
    """The measurements of the demo."""

    hour: datetime
    times: LoopTimes
    verified: VerifySummary
    app: AppCheck
    seconds: float


def make_stack(folder: Path, ports: PortPlan, options: DemoOptions) -> EmbeddedStack:
    """Return the demo's stack. The load reporter divides by the pace, because the riders' hours pass that much faster."""
    extra = {
        "FORESHARD_SIDECAR__LOAD_TIME_SCALE": str(options.pace),
        "FORESHARD_DEMO_RIDERS": str(options.riders),
        "FORESHARD_DEMO_LOOKUPS": str(options.lookups),
        "FORESHARD_MIGRATE__SOURCE_KEPT": "PT5S",
        "FORESHARD_OBSERVE__REQUEST_TYPES": json.dumps({n: t.model_dump(mode="json") for n, t in REQUEST_TYPES.items()}),
    }
    return EmbeddedStack(folder.resolve(), project_root(), ports, tuple(PARTITION_LOCATIONS), COLLECTIONS, extra)


def prepare(stack: EmbeddedStack, options: DemoOptions, steps: Steps) -> tuple[Wiring, Slice, DemoLayout]:
    """Start everything, and load the app's data and the history while Airflow starts."""
    end = hour_floor(datetime.now(UTC))
    with steps.step("start five mongods and Kafka; launch Airflow") as step:
        stack.airflow.launch()
        stack.up_databases(step.note)
    with steps.step(f"shift the sample log by whole weeks to end at {end:%Y-%m-%d %H:%M} UTC"):
        parts = cut(load_sample(end, options.riders), options)
    wiring = join_stack(stack)
    layout = load_app(wiring, stack, parts, steps)
    load_history(wiring, parts, steps)
    with steps.step("start sidecar, load reporter, applier and exporter; wait for Airflow") as step:
        stack.up_services(step.note)
        step.note("Airflow")
        stack.airflow.wait()
    return wiring, parts, layout


def join_stack(stack: EmbeddedStack) -> Wiring:
    """Give this process the settings of the stack's own processes."""
    os.environ.update(stack.environment)
    return Wiring(Settings.load())


def run_demo(stack: EmbeddedStack, options: DemoOptions, console: Console) -> DemoResult:
    """Run the whole loop once. Raise a :class:`ForeshardError` if a step or a check fails."""
    begun = time.monotonic()
    steps = Steps(console)
    wiring, parts, layout = prepare(stack, options, steps)
    with wiring:
        client = make_client(wiring, stack)
        app = RidersApp(client, options.lookups)
        initial = {d["_id"]: d for d in station_documents(parts.sample, pd.Timestamp(parts.live_from))}
        play_live(wiring, app, client, parts, options, steps)
        before = report.routes(stack.sidecar_url, sorted(layout.table.placements))
        times = _loop(stack, app, parts, steps)
        verified, checked = _verify(wiring, app, initial, parts.hour, steps)
        with steps.step("wait until the load of the copying has left the load reports"):
            wait_until_quiet(wiring)
        report.show(console, wiring, stack.sidecar_url, parts.hour, layout, before)
        client.close()
    report.show_checks(console, verified, checked, times)
    _refuse_failures(checked)
    return DemoResult(parts.hour, times, verified, checked, time.monotonic() - begun)


def switch_on(stack: EmbeddedStack) -> None:
    """Unpause the loop's DAGs and the upkeep, so that every hour is processed when it closes."""
    api = AirflowApi(stack.airflow.url, USER, stack.secrets["password"])
    api.login()
    wait_for_dags(api, lambda _note: None)
    for dag in (*LOOP, UPKEEP):
        api.set_paused(dag, paused=False)
    api.close()


def ride() -> None:
    """Ride the sample's coming weeks in real time, with the settings of the stack's environment."""
    riders, lookups = int(os.environ["FORESHARD_DEMO_RIDERS"]), int(os.environ["FORESHARD_DEMO_LOOKUPS"])
    sample = load_sample(hour_floor(datetime.now(UTC)), riders, WEEKS_AHEAD)
    with RoutedClient.from_settings() as client:
        ride_in_real_time(RidersApp(client, lookups), rides_of(sample.accesses), THREADS)


def make_client(wiring: Wiring, stack: EmbeddedStack) -> RoutedClient:
    """Return the example app's routed client."""
    return RoutedClient.from_settings(wiring.settings, sidecar_url=stack.sidecar_url)


def _loop(stack: EmbeddedStack, app: RidersApp, parts: Slice, steps: Steps) -> LoopTimes:
    api = AirflowApi(stack.airflow.url, USER, stack.secrets["password"])
    riders = BackgroundRiders(app, rides_of(parts.latest), BACKGROUND_RIDES_PER_SECOND, "during-the-loop")
    with steps.step(f"run the DAGs in Airflow for {parts.hour:%Y-%m-%d %H:00} UTC while riders keep riding") as step:
        api.login()
        wait_for_dags(api, step.note)
        with riders:
            times = run_loop(api, parts.hour, step.note)
    api.close()
    return times


def _verify(
    wiring: Wiring, app: RidersApp, initial: dict[str, dict[str, int]], hour: datetime, steps: Steps
) -> tuple[VerifySummary, AppCheck]:
    with steps.step("check every document, shadow and acknowledged write in the databases"):
        verified = verify_hour(wiring, hour, everything=True)
        clients = {p.partition_id: wiring.mongo.partition(p) for p in wiring.registry.partitions()}
        return verified, check_app(app.acknowledged, initial, wiring.routing.current(), clients)


def wait_until_quiet(wiring: Wiring, patience: float = 45.0) -> None:
    """Wait until every partition reports less than half of the room mark, so that the routed requests show the usual case."""
    deadline = time.monotonic() + patience
    calm = wiring.settings.sidecar.room_mark / 2
    capacity = {p.partition_id: p.capacity for p in wiring.registry.partitions()}
    while any(report.load > calm * capacity[report.partition_id] for report in wiring.loads.current()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


def _refuse_failures(checked: AppCheck) -> None:
    if checked.missing:
        raise VerificationFailed("acknowledged writes", [*checked.missing_trips, *checked.wrong_counters])
    if not checked.acknowledged:
        raise ForeshardError("the example app was acknowledged no write, so nothing shows that none is lost")
    if checked.failed:
        raise ForeshardError(f"{len(checked.failed)} rides failed in the example app, the first: {checked.failed[0]}")
