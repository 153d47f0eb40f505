"""An hour that is too large for memory is imported from file to file, with the same result as in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foreshard.errors import GateFailed
from foreshard.model import ONE_HOUR
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.log_import import ImportSummary, import_history
from foreshard.stages.observing import import_hours
from foreshard.wiring import Wiring

FIRST = datetime(2026, 3, 2, 8, tzinfo=UTC)
RECORDS = (90, 400, 70, 60, 300, 310, 80)
"""Of each hour. Those of more than 200 are too large in these tests."""
HOURS = [FIRST + number * ONE_HOUR for number in range(len(RECORDS))]


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path) -> Iterator[Wiring]:
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        data_dir=tmp_path / "data",
        user_key="a secret of the tests of 32 bytes",
        observe={"request_types": {"read": {"kind": "read", "weight": 1.0}}},
    )
    with Wiring(settings) as made:
        yield made
        made.control.drop_database(unique_name)


def log() -> pd.DataFrame:
    """Sessions cross the hours, measured costs have no exact sum, and a few records are bad."""
    random = np.random.default_rng(7)
    times = np.concatenate([place * 3600e6 + np.sort(random.integers(0, 3600e6, n)) for place, n in enumerate(RECORDS)])
    number = len(times)
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp(FIRST) + pd.to_timedelta(times, unit="us"),
            "partitionable_key": [f"key {key}" for key in random.integers(0, 30, number)],
            "user_id": [f"user {place // 9}" for place in range(number)],
            "request_type": "read",
            "session_id": [f"session {place // 7}" if place % 5 else None for place in range(number)],
            "cost": np.where(random.random(number) < 0.7, random.random(number) * 10, np.nan),
        }
    ).astype({"timestamp": object})
    frame.loc[[5, 200, 210, 700], "request_type"] = "explode"
    frame.loc[[6, 300], "timestamp"] = "soon"
    return frame


def result(wiring: Wiring, found: ImportSummary) -> dict[str, Any]:
    """Return everything that an import has saved: as text, so that the last bit of a number counts."""
    tallies, raw = wiring.tallies, wiring.raw_hours
    since, until = HOURS[0], HOURS[-1] + ONE_HOUR
    records = {hour: raw.load(hour).to_csv(index=False).splitlines() for hour in HOURS}
    return {
        "summary": found,
        "load": tallies.key_load(since, until).to_json(double_precision=15),
        "pairs": tallies.co_access(since, until).to_json(),
        "facts": [counts.facts for counts in tallies.counts(HOURS)],
        "records": {hour: sorted(lines) for hour, lines in records.items()},
        "quarantined": {hour: raw.reasons(hour) for hour in HOURS},
    }


@pytest.mark.parametrize("order", ["as it came", "reversed", "shuffled"])
def test_an_hour_that_is_too_large_for_memory_gives_the_same_bytes(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    given = log()
    small = result(wiring, import_history(wiring, given))
    assert small["summary"].reasons == {"unknown_request_type": 4, "unparsable_time": 2}
    assert len(small["pairs"]) > 1000
    orders = {"as it came": given, "reversed": given[::-1], "shuffled": given.sample(frac=1, random_state=3)}
    streamed: list[datetime] = []
    counted_hour = import_hours.counted_hour

    def watched(ports: Any, hour: datetime, rules: Any) -> Any:
        streamed.append(hour)
        return counted_hour(ports, hour, rules)

    monkeypatch.setattr(import_hours, "counted_hour", watched)
    monkeypatch.setattr(import_hours, "RECORDS_AT_ONCE", 200)
    monkeypatch.setattr("foreshard.stages.observing.log_reading.BATCH_RECORDS", 150)
    huge = result(wiring, import_history(wiring, orders[order].reset_index(drop=True)))
    assert streamed == [HOURS[1], HOURS[2], HOURS[4], HOURS[5], HOURS[6]], "the large hours, and those behind them"
    assert huge == small


def test_an_import_behind_a_large_hour_that_was_saved_before_does_not_load_it(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = log()
    whole = result(wiring, import_history(wiring, given))
    monkeypatch.setattr(import_hours, "RECORDS_AT_ONCE", 200)
    monkeypatch.setattr(import_hours, "_saved", lambda *_: pytest.fail("a large hour was read into memory"))
    import_history(wiring, given, HOURS[2], HOURS[3])
    again = result(wiring, whole["summary"])
    assert again == whole


def test_bad_records_wait_in_a_file_and_a_refused_log_shows_all_of_them(wiring: Wiring) -> None:
    given = log()
    given.loc[100:400, "request_type"] = "explode"
    with pytest.raises(GateFailed, match=r"unknown_request_type 302, unparsable_time 2\); see (\S+)") as raised:
        import_history(wiring, given)
    path = str(raised.value).rsplit("see ", 1)[1].split(".parquet", maxsplit=1)[0] + ".parquet"
    assert pd.read_parquet(path)["reason"].value_counts().to_dict() == {"unknown_request_type": 302, "unparsable_time": 2}
    assert not list((wiring.settings.data_dir / "raw").rglob("*.parquet"))


def test_each_quarantined_record_is_saved_in_its_hour_or_aside(wiring: Wiring) -> None:
    found = import_history(wiring, log(), FIRST - timedelta(hours=1))
    assert sum(sum(wiring.raw_hours.reasons(hour).values()) for hour in HOURS) == 4
    (aside,) = (wiring.settings.data_dir / "quarantine").glob("import-*.parquet")
    assert pd.read_parquet(aside)["reason"].tolist() == ["unparsable_time"] * 2
    assert found.quarantined == 6
