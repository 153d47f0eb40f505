"""The demo's stages on the running stack: load the app's data, import the history, play the latest hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from foreshard.client import RoutedClient
from foreshard.demo._app import RidersApp, play, rides_of
from foreshard.demo._documents import create_indexes, load_documents, station_documents, trip_documents
from foreshard.demo._sample import Sample, with_lookups
from foreshard.demo.console import Steps
from foreshard.demo.demo_layout import DemoLayout, make_layout
from foreshard.model import RequestKind
from foreshard.settings import CollectionSetting, RequestTypeSetting
from foreshard.stack.embedded import EmbeddedStack
from foreshard.stages.log_import import import_history
from foreshard.stages.observe import extract_hour, tally_hour
from foreshard.wiring import Wiring

COLLECTIONS = (
    CollectionSetting(database="bikeshare", collection="stations", key_field="station"),
    CollectionSetting(database="bikeshare", collection="trips", key_field="station"),
)
REQUEST_TYPES = {
    "checkout": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
    "return": RequestTypeSetting(kind=RequestKind.WRITE, weight=2.0),
}
"""The sample log's own request types, added to the defaults."""
ONE_HOUR = timedelta(hours=1)
LATEST_RIDES = 500
THREADS = 6
"""Riders that ride at once."""


@dataclass(frozen=True)
class DemoOptions:
    """How much of the sample is used, and how fast it is played."""

    riders: int
    lookups: int
    weeks: int
    live_hours: int
    pace: float


@dataclass(frozen=True)
class Slice:
    """The parts of the sample: ``history`` (with lookups) before ``live_from``, and ``live`` rides from then to ``end``."""

    sample: Sample
    history: pd.DataFrame
    live: pd.DataFrame
    live_from: datetime
    end: datetime

    @property
    def hour(self) -> datetime:
        """The hour that closes."""
        return self.end - ONE_HOUR

    @property
    def latest(self) -> pd.DataFrame:
        """The last rides before ``end``. At night the live hours may have none."""
        return self.sample.accesses.tail(LATEST_RIDES)


def cut(sample: Sample, options: DemoOptions) -> Slice:
    """Cut the sample into history and live hours."""
    live_from = sample.end - options.live_hours * ONE_HOUR
    since = sample.end - timedelta(weeks=options.weeks)
    accesses = sample.accesses[sample.accesses["timestamp"] >= since]
    history = with_lookups(accesses[accesses["timestamp"] < live_from], options.lookups)
    return Slice(sample, history, accesses[accesses["timestamp"] >= live_from], live_from, sample.end)


def place(wiring: Wiring, parts: Slice, uris: Mapping[str, str]) -> DemoLayout:
    """Register the partitions with their ``uris`` and publish the first table."""
    weights = {name: setting.weight for name, setting in wiring.settings.observe.request_types.items()}
    layout = make_layout(parts.history, weights, parts.end, uris)
    wiring.registry.register(layout.partitions, layout.locations)
    wiring.routing.initialise(layout.table)
    return layout


def load_app(wiring: Wiring, stack: EmbeddedStack, parts: Slice, steps: Steps) -> DemoLayout:
    """Register the partitions, publish the first table and load the app's documents."""
    layout = place(wiring, parts, {mongod.name: mongod.uri for mongod in stack.mongods[1:]})
    clients = {p.partition_id: wiring.mongo.partition(p) for p in layout.partitions}
    until = pd.Timestamp(parts.live_from)
    create_indexes(clients)
    stations = station_documents(parts.sample, until)
    trips = int((parts.sample.trips["started_at"] < until).sum())
    with steps.step(f"load {len(stations)} stations and {trips:,} trips where their city is", len(stations) + trips) as step:
        load_documents(stations, "stations", layout.table, clients, step.advance)
        load_documents(trip_documents(parts.sample, until), "trips", layout.table, clients, step.advance)
    return layout


def load_history(wiring: Wiring, parts: Slice, steps: Steps) -> None:
    """Import the history through the observe stage."""
    since = parts.end - timedelta(seconds=round((parts.end - parts.history["timestamp"].min()).total_seconds()))
    with steps.step(f"import {len(parts.history):,} accesses of history through the observe stage") as step:
        import_history(wiring, parts.history, since, parts.live_from, step.set_done)


def play_live(wiring: Wiring, app: RidersApp, client: RoutedClient, parts: Slice, options: DemoOptions, steps: Steps) -> None:
    """Play the latest hours. The hours before the closing one are observed here, the closing hour by Airflow."""
    rides = rides_of(parts.live)
    title = f"play {len(rides):,} rides of the latest {options.live_hours} h as live traffic, {options.pace:.0f} × real time"
    with steps.step(title, len(rides)) as step:
        play(app, rides, options.pace, THREADS, step.advance)
        client.flush(30)
    hour = parts.live_from
    while hour < parts.hour:
        extract_hour(wiring, hour)
        tally_hour(wiring, hour)
        hour += ONE_HOUR
