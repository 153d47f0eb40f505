"""Hours know their source: an import replaces only its own, a repaired source replaces what it gave, the order is no matter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.integration.test_observe_stage import HOUR, REQUEST_TYPES, SECRET, history

from foreshard.errors import CorruptLog, HourRefused
from foreshard.model import ONE_HOUR
from foreshard.settings import Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.log_import import ImportSource, import_history
from foreshard.stages.observe import extract_hour, tally_hour
from foreshard.stages.observing.amend import amend_hours
from foreshard.wiring import Wiring


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path, folder: Path) -> Iterator[Wiring]:
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        data_dir=tmp_path / "data",
        user_key=SECRET,
        observe={"request_types": REQUEST_TYPES, "access_log_paths": [folder]},
    )
    with Wiring(settings) as made:
        yield made
        made.control.drop_database(unique_name)


def written(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False)
    return path


def accesses(wiring: Wiring, hour: datetime = HOUR - ONE_HOUR) -> list[int]:
    return [counted.accesses for counted in wiring.tallies.counts([hour])]


def test_an_import_refuses_hours_of_another_source_and_names_it(wiring: Wiring, tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.csv", history(2)), written(tmp_path / "b.csv", history(2, 30))
    import_history(wiring, first)
    with pytest.raises(
        HourRefused, match=r"was given by .*a\.csv \(60 records\), like 1 more hours of the import; .*--replace"
    ):
        import_history(wiring, second)
    assert accesses(wiring) == [60]
    replaced = import_history(wiring, second, source=ImportSource(replace=True))
    assert (accesses(wiring), replaced.changed) == ([30], -60)
    again = import_history(wiring, written(second, history(2, 20)))
    assert (accesses(wiring), again.changed) == ([20], -20)


def test_two_logs_of_one_hour_are_imported_as_one_folder(wiring: Wiring, folder: Path) -> None:
    written(folder / "a.csv", history(2))
    written(folder / "b.csv", history(2, 30))
    assert import_history(wiring, folder).accepted == 180
    assert accesses(wiring) == [90]


def test_a_source_may_have_a_name_of_its_own(wiring: Wiring, tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.csv", history(2)), written(tmp_path / "b.csv", history(2, 30))
    import_history(wiring, first, source=ImportSource("shop"))
    import_history(wiring, second, source=ImportSource("shop"))
    assert wiring.raw_hours.describe(HOUR - ONE_HOUR).source == "shop"
    assert accesses(wiring) == [30]


def test_a_repaired_source_replaces_the_hour_though_it_gives_fewer_records(wiring: Wiring, folder: Path) -> None:
    hour = HOUR - ONE_HOUR
    path = written(folder / "a.csv", history(1, 60))
    assert extract_hour(wiring, hour).notes == ()
    written(path, history(1, 40))
    repaired = extract_hour(wiring, hour)
    assert (repaired.accepted, repaired.before) == (40, 60)
    assert repaired.notes == ("replaces 60 records (-20); the old file is kept in replaced/",)
    assert [len(pd.read_parquet(kept)) for kept in (wiring.settings.data_dir / "replaced").rglob("*.parquet")] == [60]
    before = hour + timedelta(days=2)
    assert wiring.retention.forget(before, before, before, before)["replaced"] == 1


def test_an_hour_that_another_source_gave_is_kept_and_a_person_chooses_if_this_one_has_more(
    wiring: Wiring, folder: Path, tmp_path: Path
) -> None:
    hour = HOUR - ONE_HOUR
    import_history(wiring, written(tmp_path / "a.csv", history(1, 60)))
    written(folder / "b.csv", history(1, 50))
    kept = extract_hour(wiring, hour)
    assert (kept.accepted, amend_hours(wiring, HOUR).hours) == (60, ())
    assert "a.csv gave its 60 records" in kept.notes[0]
    assert "has 50" in kept.notes[0]
    written(folder / "b.csv", history(1, 70))
    with pytest.raises(HourRefused, match=r"has two sources: .*a\.csv gave its 60 records; .* has 70; .*--replace takes"):
        extract_hour(wiring, hour)
    assert wiring.raw_hours.describe(hour).accepted == 60
    assert amend_hours(wiring, HOUR).hours == ()
    assert extract_hour(wiring, hour, replace=True).accepted == 70


def test_an_hour_that_an_earlier_release_saved_is_not_replaced_by_fewer_records(wiring: Wiring, folder: Path) -> None:
    hour = HOUR - ONE_HOUR
    written(folder / "a.csv", history(1, 60))
    extract_hour(wiring, hour)
    saved = wiring.raw_hours.load(hour)
    wiring.raw_hours.save(hour, saved, pd.DataFrame())
    assert wiring.raw_hours.describe(hour).source == ""
    written(folder / "a.csv", history(1, 40))
    kept = extract_hour(wiring, hour)
    assert (kept.accepted, "from an unknown source" in kept.notes[0]) == (60, True)
    written(folder / "a.csv", history(1, 70))
    assert extract_hour(wiring, hour).accepted == 70


@pytest.mark.parametrize("moment", [-1, 1_000_000_000, "1971-01-01T00:00:00Z"])
def test_one_time_of_another_age_is_quarantined_and_makes_no_hours(wiring: Wiring, tmp_path: Path, moment: Any) -> None:
    log = history(30).astype({"timestamp": object})
    log.loc[7, "timestamp"] = moment
    lines = [
        json.dumps({**row, "timestamp": str(row["timestamp"])} | ({"timestamp": moment} if n == 7 else {}))
        for n, row in enumerate(log.to_dict("records"))
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = import_history(wiring, tmp_path / "a.jsonl")
    assert (found.hours, found.accepted, found.quarantined) == (30, 1_799, 1)
    [aside] = (wiring.settings.data_dir / "quarantine").glob("import-*.parquet")
    assert len(pd.read_parquet(aside)) == 1


def test_a_log_in_two_large_parts_keeps_both(wiring: Wiring, tmp_path: Path) -> None:
    early = history(1, 60, HOUR - timedelta(days=40))
    found = import_history(wiring, written(tmp_path / "a.csv", pd.concat([early, history(1, 60)])))
    assert (found.accepted, found.quarantined) == (120, 0)


def test_records_that_are_delivered_twice_count_once(wiring: Wiring, folder: Path) -> None:
    hour = HOUR - ONE_HOUR
    log = history(1, 60).assign(record_id=[f"r{n}" for n in range(60)])
    written(folder / "a.csv", pd.concat([log, log.iloc[:25]]))
    raw = extract_hour(wiring, hour)
    assert (raw.accepted, raw.quarantined, raw.duplicates, raw.records) == (60, 0, 25, 85)
    assert wiring.raw_hours.describe(hour).duplicates == 25
    assert import_history(wiring, folder).duplicates == 25


def test_hours_counted_in_reverse_give_the_same_bytes(wiring: Wiring, folder: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    log = history(6, 120).assign(session_id=None)
    log["user_id"] = [f"rider {n}" for n in random.integers(0, 9, len(log))]
    written(folder / "a.csv", log)
    hours = [HOUR - n * ONE_HOUR for n in range(6, 0, -1)]
    found = []
    for name, order in (("forwards", hours), ("backwards", hours[::-1]), ("mixed", [hours[n] for n in (3, 0, 5, 2, 4, 1)])):
        database = f"{wiring.settings.control_database}_{name}"
        with Wiring(wiring.settings.model_copy(update={"data_dir": tmp_path / name, "control_database": database})) as other:
            for hour in order:
                extract_hour(other, hour)
                tally_hour(other, hour)
            pairs = [
                next((tmp_path / name / "co-access").rglob(f"date={hour:%Y-%m-%d}/hour={hour:%H}.*.parquet")).read_bytes()
                for hour in hours
            ]
            found.append((pairs, [counted.revision for counted in other.tallies.counts(hours)]))
            other.control.drop_database(database)
    assert found[0] == found[1] == found[2]


def test_a_folder_without_records_is_refused_and_the_hour_is_not_empty(wiring: Wiring, folder: Path) -> None:
    written(folder / "a.csv", history(0))
    with pytest.raises(CorruptLog, match="none of its files has a record"):
        extract_hour(wiring, HOUR - ONE_HOUR)
