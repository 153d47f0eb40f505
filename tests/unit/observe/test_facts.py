"""The facts by which hours are compared."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from foreshard.model import HourFacts
from foreshard.observe import facts
from foreshard.observe.batches import accepted_table, coded_texts
from foreshard.observe.tally import TALLIED

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)


def records(number: int = 9_000) -> pd.DataFrame:
    order = np.arange(number)
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(order * 3600 / number, unit="s"),
            "partitionable_key": [f"k{n % 70}" for n in order],
            "user_id": [None if n % 3 else f"h2:{n % 11}" for n in order],
            "request_type": "read",
            "location": None,
            "session_id": None,
            "cost": np.where(order % 2, np.nan, 5.0),
        }
    )


def of(frame: pd.DataFrame, hour: datetime = HOUR) -> HourFacts:
    coded = coded_texts(accepted_table(frame))
    return facts.facts_of([coded.select(("timestamp", *TALLIED))], hour, {"read": 2.0}, "log")


def test_the_facts_are_counts_of_the_records() -> None:
    found = of(records())
    assert (found.cost, found.with_user, found.repeated, found.source) == (4_500 * 7.0, 3_000, 1, "log")
    assert found.minutes == (150,) * 60
    assert len(found.sketch) == facts.SKETCH


def test_order_hour_and_parts_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = records()
    later = frame.assign(timestamp=frame["timestamp"] + timedelta(days=3))
    found = of(frame)
    assert of(frame.sample(frac=1, random_state=4)) == found
    assert of(later, HOUR + timedelta(days=3)) == found
    monkeypatch.setattr(facts, "_ROWS_AT_ONCE", 700)
    assert of(frame) == found


def test_repeats_are_found_if_all_records_are_repeated_alike() -> None:
    frame = records()
    assert of(pd.concat([frame] * 3)).repeated == 3
    assert of(pd.concat([frame, frame[:4_500]])).repeated == 1
    assert of(pd.concat([frame[:5]] * 2)).repeated == 1


def test_an_hour_without_records_has_facts() -> None:
    assert of(records()[:0]) == HourFacts(0.0, 0, (0,) * 60, 1, (), "log")
