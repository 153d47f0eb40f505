"""Small logs to replay."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from foreshard.lab.log import Ranges, ReplayLog, gather_log
from foreshard.model import RequestKind
from foreshard.observe.pairs.co_access import CoAccessRules
from foreshard.settings import ObserveSettings

START = datetime(2024, 3, 4, tzinfo=UTC)
KINDS = {"read": RequestKind.READ, "write": RequestKind.WRITE}
WEIGHTS = {"read": 1.0, "write": 2.0}


def records(rows, start=START, **columns):
    """A frame from (hour, key, cost) rows and the given columns."""
    frame = pd.DataFrame(rows, columns=["hour", "partitionable_key", "cost"])
    frame["timestamp"] = [start + timedelta(hours=float(hour)) for hour in frame.pop("hour")]
    for name, value in {"request_type": "read", "user_id": None, "location": None, "session_id": None, **columns}.items():
        frame[name] = value
    return frame


def gathered(*frames, **more):
    return gather_log(frames, KINDS, WEIGHTS, CoAccessRules.of(ObserveSettings()), "log", **more)


def log_of(costs, **columns):
    """A log of these costs (keys, hours). Records with cost 0 mark its first and last hour."""
    costs = np.asarray(costs, float)
    rows = [(hour, f"k{key:03}", costs[key, hour]) for key, hour in zip(*np.nonzero(costs), strict=True)]
    rows += [(0, "k000", 0.0), (costs.shape[1] - 1, "k000", 0.0)]
    return gathered(records(rows, **columns))


@pytest.fixture(scope="session")
def make_log():
    return log_of


@pytest.fixture(scope="session")
def gather():
    return gathered


@pytest.fixture(scope="session")
def rows_of():
    return records


def log_of_rates(random, days, jump_at):
    """Sixty keys with a daily wave; all of them double at the hour ``jump_at``."""
    at = np.arange(days * 24)
    rates = np.exp(random.normal(1.0, 0.7, (60, 1))) * (1.2 + np.sin(at / 24 * 2 * np.pi))[None]
    if jump_at is not None:
        rates[:, jump_at:] *= 2
    none = np.zeros(0, np.int64)
    ranges = Ranges(np.zeros(len(at) + 1, np.int64))
    return ReplayLog(
        datetime(1970, 1, 1, tzinfo=UTC), tuple(f"k{n:02}" for n in range(60)), (), random.poisson(rates).astype(np.float32),
        ranges, none, none, none.astype(float), none.astype(float), none.astype(float), ranges, none, none, none.astype(float),
        0, {},
    )  # fmt: skip


@pytest.fixture(scope="session")
def rates_log():
    return log_of_rates
