"""The example app: riders look stations up, check bikes out and return them, through the routed client.

The app records every write that was acknowledged to it. The demo compares that list with the databases at the end.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from foreshard.demo._sample import lookup_city
from foreshard.demo.demo_layout import DATABASE
from foreshard.errors import AmbiguousWrite, ForeshardError
from foreshard.model import hour_floor

if TYPE_CHECKING:
    import pandas as pd

    from foreshard.client import RequestScope, RoutedClient


@dataclass(frozen=True, slots=True)
class Ride:
    """One check-out or return. ``at`` is its time in the log."""

    at: datetime
    station: str
    rider: str
    request_type: str
    city: str
    session: str


@dataclass
class Acknowledged:
    """The acknowledged writes (trips inserted, station counters raised), and the writes whose answer was lost."""

    trips: set[str] = field(default_factory=set)
    checkouts: Counter[str] = field(default_factory=Counter)
    returns: Counter[str] = field(default_factory=Counter)
    ambiguous: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    reads: int = 0

    @property
    def writes(self) -> int:
        """The number of acknowledged writes."""
        return len(self.trips) + self.checkouts.total() + self.returns.total()


class RidersApp:
    """Turns rides into reads and writes. Safe for threads."""

    def __init__(self, client: RoutedClient, lookups: int) -> None:
        self._client = client
        self._lookups = lookups
        self._lock = threading.Lock()
        self.acknowledged = Acknowledged()

    def ride(self, ride: Ride) -> None:
        """Make one ride. An error is recorded and not raised, as an app would log it and continue."""
        try:
            self._look_up(ride)
            self._write(ride)
        except AmbiguousWrite as error:
            self._note(self.acknowledged.ambiguous, f"{ride.session} {ride.request_type}: {error}")
        except ForeshardError as error:
            self._note(self.acknowledged.failed, f"{ride.session} {ride.request_type}: {error}")

    def _look_up(self, ride: Ride) -> None:
        stations = self._client[DATABASE]["stations"]
        for number in range(self._lookups):
            with self._request(ride, "read", lookup_city(ride.station, ride.city, number)):
                stations.find_one({"station": ride.station})
        with self._lock:
            self.acknowledged.reads += self._lookups

    def _write(self, ride: Ride) -> None:
        stations = self._client[DATABASE]["stations"]
        field_name = "checkouts" if ride.request_type == "checkout" else "returns"
        with self._request(ride, ride.request_type):
            done = stations.update_one({"station": ride.station}, {"$inc": {field_name: 1}})
        if done.matched_count:
            with self._lock:
                getattr(self.acknowledged, field_name)[ride.station] += 1
        if ride.request_type == "checkout":
            trip = {"_id": ride.session, "station": ride.station, "started_at": ride.at}
            with self._request(ride, "insert"):
                self._client[DATABASE]["trips"].insert_one(trip)
            with self._lock:
                self.acknowledged.trips.add(ride.session)

    def _request(self, ride: Ride, request_type: str, city: str | None = None) -> AbstractContextManager[RequestScope]:
        return self._client.request(
            request_type, user=ride.rider, session=ride.session, location=city or ride.city, timestamp=ride.at
        )

    def _note(self, notes: list[str], note: str) -> None:
        with self._lock:
            notes.append(note)


def rides_of(accesses: pd.DataFrame) -> list[Ride]:
    """Return the rides of an access log that has only check-outs and returns, in order of time."""
    columns = ("timestamp", "partitionable_key", "user_id", "request_type", "location", "session_id")
    return [
        Ride(at.to_pydatetime(), *(str(value) for value in rest))
        for at, *rest in accesses[list(columns)].itertuples(index=False)
    ]


def play(
    app: RidersApp,
    rides: list[Ride],
    pace: float,
    threads: int,
    progress: Callable[[int], None],
    start_at: datetime | None = None,
) -> float:
    """Play rides ``pace`` times faster than they happened, and later if the app cannot keep up. Return the seconds.

    The log's time starts with the first ride or at ``start_at``. Earlier rides are played at once.
    """
    work: queue.SimpleQueue[Ride | None] = queue.SimpleQueue()
    workers = [threading.Thread(target=_work, args=(app, work, progress), daemon=True) for _ in range(threads)]
    begun = time.monotonic()
    for worker in workers:
        worker.start()
    for ride in _paced(rides, pace, start_at):
        work.put(ride)
    for _ in workers:
        work.put(None)
    for worker in workers:
        worker.join()
    return time.monotonic() - begun


def _paced(rides: list[Ride], pace: float, start_at: datetime | None) -> Iterator[Ride]:
    begun = time.monotonic()
    for ride in rides:
        due = begun + (ride.at - (start_at or rides[0].at)).total_seconds() / pace
        time.sleep(max(0.0, due - time.monotonic()))
        yield ride


def _work(app: RidersApp, work: queue.SimpleQueue[Ride | None], progress: Callable[[int], None]) -> None:
    while (ride := work.get()) is not None:
        app.ride(ride)
        progress(1)


def ride_in_real_time(app: RidersApp, rides: list[Ride], threads: int) -> None:
    """Play rides at their own times. Rides of the current hour so far are played at once, so that its log is complete."""
    now = datetime.now(UTC)
    play(app, [ride for ride in rides if ride.at >= hour_floor(now)], 1.0, threads, lambda _count: None, now)


class BackgroundRiders:
    """A context manager that repeats ``rides`` in real time, a few per second, while the table changes."""

    def __init__(self, app: RidersApp, rides: list[Ride], per_second: float, prefix: str) -> None:
        self._app, self._rides, self._pause, self._prefix = app, rides, 1 / per_second, prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.count = 0

    def __enter__(self) -> BackgroundRiders:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            template = self._rides[self.count % len(self._rides)]
            session = f"{self._prefix}-{self.count}"
            self._app.ride(
                Ride(datetime.now(UTC), template.station, template.rider, template.request_type, template.city, session)
            )
            self.count += 1
