"""Shared code of the DAG files: the hour of a run, whether the run may change live data, and how a task calls a stage.

The library, pandas and the database driver are imported inside the tasks, so that parsing a DAG file stays cheap.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Asset, Param, get_current_context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.wiring import Wiring

log = logging.getLogger("foreshard.airflow")

PARTITION_KEY_FORMAT = "%Y-%m-%dT%H:%M:%S"
ONE_HOUR = timedelta(hours=1)

CHATTY = ("great_expectations", "cmdstanpy", "prophet")
"""Libraries that log too much; only their warnings are shown."""

LATE_RECORDS = timedelta(seconds=15)
"""An hour's log is read this long after its end."""

TAG = "foreshard"
"""The tag of all Foreshard DAGs."""

PAGE = "/foreshard/"
"""Path of the plugin's page below the API server's address."""

Summary = Any
"""A stage's result as plain JSON values. The alias makes ``@task`` push it as a single XCom."""

ACCESS_TALLY = Asset("access_tally")
PARTITION_SCORES = Asset("partition_scores")
ROUTING_TABLE = Asset("routing_table")

NEVER_RETRIED = (
    "ConfigurationError",
    "CorruptLog",
    "GateFailed",
    "HourRefused",
    "MissingStageResult",
    "MoveRefused",
    "NoRoutingTable",
    "NoSlotOwner",
    "PlacementRuleBroken",
    "RawUserId",
    "TableNotUpgradable",
    "UnknownEngine",
    "UnknownLocation",
    "UnknownPartition",
    "UnsupportedModel",
    "UnusableCapacity",
    "VerificationFailed",
)
"""Errors that a retry cannot fix. A task that raises one fails without retries."""

DEFAULT_ARGS: Mapping[str, Any] = {
    "owner": "foreshard",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=20),
}

PASSED_ON = ("dry_run", "act_on_old_hours")
"""Params that are passed on with the asset event, so that a dry run of the first DAG is a dry run of the whole loop."""


def loop_params() -> dict[str, Param]:
    """Return the params of every DAG of the loop. Each DAG needs its own, because Airflow writes a run's values into them."""
    return {
        "hour": Param(
            None,
            type=["null", "string"],
            title="Hour",
            description="Start of a closed hour, ISO 8601 (2026-03-01T08:00:00Z; UTC without a zone). "
            "Empty: the run's partition, or the last closed hour.",
        ),
        "dry_run": Param(
            False, type="boolean", title="Dry run", description="Plan and check, but change no data and no routing table."
        ),
        "act_on_old_hours": Param(
            False,
            type="boolean",
            title="Act on old hours",
            description="Let the plan of an old hour, such as a backfilled one, move live data.",
        ),
    }


def acting_params() -> dict[str, Param]:
    """Return the params of a DAG that moves data: the loop's, and the conditions for acting on a plan."""
    return {
        **loop_params(),
        "hours_until_old": Param(
            3, type="integer", minimum=1, title="Hours until old", description="An hour that ended longer ago is old."
        ),
        "require_approval": Param(
            os.environ.get("FORESHARD_REQUIRE_APPROVAL", "").lower() in {"1", "true", "yes"},
            type="boolean",
            title="Require approval",
            description="Wait until a person approves the plan (default: FORESHARD_REQUIRE_APPROVAL).",
        ),
    }


def parse_hour(text: str) -> datetime:
    """Parse a partition key or ISO time as an aware UTC hour. Fail the task if it is not the start of an hour."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise AirflowFailException(f"{text!r} is not an hour; write it as 2026-03-01T08:00:00") from None
    hour = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if (hour.minute, hour.second, hour.microsecond) != (0, 0, 0):
        raise AirflowFailException(f"{text!r} is not the start of an hour; use {hour:%Y-%m-%dT%H}:00:00")
    return hour


def hour_of(context: Mapping[str, Any], now: datetime | None = None) -> datetime:
    """Return a run's hour: its partition, else the param ``hour``, else the last hour that had closed before the run.

    Fail the task if partition and param contradict each other, or if the hour is not over.
    """
    key, asked = context.get("partition_key"), (context.get("params") or {}).get("hour")
    if key and asked and parse_hour(key) != parse_hour(asked):
        raise AirflowFailException(f"partition {key} and param hour {asked} contradict each other; give one")
    named = key or asked
    hour = parse_hour(named) if named else _last_closed_hour(context)
    if hour + ONE_HOUR > (now or datetime.now(UTC)):
        raise AirflowFailException(f"hour {hour:%Y-%m-%dT%H:%MZ} is not over yet; run it after {hour + ONE_HOUR:%H:%MZ}")
    return hour


def option(name: str, context: Mapping[str, Any] | None = None) -> bool:
    """Whether a boolean param is set on this run, or on the run whose asset event triggered it."""
    context = context if context is not None else get_current_context()
    if (context.get("params") or {}).get(name):
        return True
    events = context.get("triggering_asset_events") or {}
    return any((event.extra or {}).get(name) for of_asset in events.values() for event in of_asset)


def param(name: str) -> Any:
    """Return one of this run's params."""
    return get_current_context()["params"][name]


def may_act(context: Mapping[str, Any] | None = None, now: datetime | None = None) -> bool:
    """Whether this run may move data and publish: not in a dry run, and for an old hour only with ``act_on_old_hours``.

    The hour decides, not the run's type, because the consumers of a backfilled asset run as ``asset_triggered``.
    """
    context = context if context is not None else get_current_context()
    if option("dry_run", context):
        return False
    age = (now or datetime.now(UTC)) - (hour_of(context, now) + ONE_HOUR)
    limit = timedelta(hours=(context.get("params") or {}).get("hours_until_old", 3))
    return age <= limit or option("act_on_old_hours", context)


def page_address() -> str:
    """Return the page's path, below the path of the API server's base URL."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + PAGE


def for_hour(stage: str, /, *arguments: Any, **named: Any) -> Any:
    """Call a stage (``module.function`` of ``foreshard.stages``) for the run's hour. Return its summary for XCom."""
    return run(stage, hour_of(get_current_context()), *arguments, **named)


def run(stage: str, /, *arguments: Any, **named: Any) -> Any:
    """Call a stage with a wiring and ``arguments``. An error of ``NEVER_RETRIED`` fails the task without retries."""
    from foreshard import errors

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    what = ", ".join(str(argument) for argument in arguments)
    log.info("%s(%s)", stage, what)
    try:
        with task_wiring() as wiring:
            summary = as_xcom(stage_function(stage)(wiring, *arguments, **named))
    except tuple(getattr(errors, name) for name in NEVER_RETRIED) as error:
        raise AirflowFailException(str(error)) from None
    log.info("%s(%s) done: %s", stage, what, summary)
    return summary


def wait_for_late_records() -> None:
    """Wait until ``LATE_RECORDS`` after the hour's end, because apps send their last access records a little late."""
    remaining = hour_of(get_current_context()) + ONE_HOUR + LATE_RECORDS - datetime.now(UTC)
    time.sleep(max(remaining.total_seconds(), 0))


def stage_function(stage: str) -> Callable[..., Any]:
    """Import ``module.function`` of ``foreshard.stages``."""
    module, _, name = stage.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(f"foreshard.stages.{module}"), name)
    return function


def announce(asset: Asset, hours: Sequence[datetime] = ()) -> None:
    """Add partitions and the params of ``PASSED_ON`` to this task's asset event: those of ``hours``, or of the run's hour."""
    context = get_current_context()
    event = context["outlet_events"][asset]
    for hour in hours or [hour_of(context)]:
        event.add_partitions(hour.strftime(PARTITION_KEY_FORMAT))
    event.extra.update({name: True for name in PASSED_ON if option(name, context)})


def announce_changed(asset: Asset, hours: Sequence[str]) -> None:
    """Add the partitions of earlier ``hours`` to this task's asset event. Skip the task, and so the event, without any."""
    if not hours:
        raise AirflowSkipException("no earlier hour has changed")
    announce(asset, [datetime.fromisoformat(hour) for hour in hours])


@contextmanager
def task_wiring() -> Iterator[Wiring]:
    """Yield the stores for one task. The settings come from the environment and from Airflow connections."""
    from foreshard.wiring import Wiring

    with Wiring(airflow_settings()) as wiring:
        yield wiring


def airflow_settings() -> Settings:
    """Return the settings of the environment, overridden by the Airflow connections ``foreshard_…``.

    ``foreshard_mongo`` has MongoDB's login and password, and ``foreshard_kafka`` the bootstrap server. The password of
    ``foreshard_users`` is the key that pseudonymises user ids.
    """
    from foreshard.settings import Settings

    mongo, kafka, users = (_connection(f"foreshard_{name}") for name in ("mongo", "kafka", "users"))
    found = {
        "mongo_username": mongo and mongo.login,
        "mongo_password": mongo and mongo.password,
        "kafka_bootstrap": kafka and kafka.host and f"{kafka.host}:{kafka.port or 9092}",
        "user_key": users and users.password,
    }
    return Settings.load(**{name: value for name, value in found.items() if value})


def as_xcom(value: Any) -> Any:
    """Return a stage's summary as plain JSON values. Raise TypeError for other values, such as data frames."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_xcom(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_xcom(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [as_xcom(item) for item in value]
    if isinstance(value, Enum):
        return as_xcom(value.value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is not a summary; stages return ids, counts and paths")


def _last_closed_hour(context: Mapping[str, Any]) -> datetime:
    run = context.get("dag_run")
    moment = context.get("logical_date") or (run and run.run_after) or datetime.now(UTC)
    return datetime.fromtimestamp(moment.timestamp(), UTC).replace(minute=0, second=0, microsecond=0) - ONE_HOUR


def _connection(name: str) -> Any:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
