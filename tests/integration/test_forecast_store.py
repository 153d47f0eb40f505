from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pymongo import MongoClient

from foreshard.errors import MissingStageResult
from foreshard.model import ForecastBatch, SeriesMatrix
from foreshard.ports.stages import SeriesBasis
from foreshard.stores.control import forecasts as mongo_forecast
from foreshard.stores.control.forecasts import MongoForecastStore
from foreshard.stores.files.series import ParquetSeriesStore

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
BASIS = SeriesBasis(("a", "", "b"), 4096)


def batch(keys: list[str], seed: int = 0, horizon: int = 24) -> ForecastBatch:
    random = np.random.default_rng(seed)
    mean, sigma = random.random((len(keys), horizon)) * 1e6, random.random((len(keys), horizon))
    return ForecastBatch(HOUR, 0.9, tuple(keys), mean, sigma, mean + sigma, tuple("prophet" for _ in keys))


def assert_same(one: ForecastBatch, other: ForecastBatch) -> None:
    assert (one.hour, one.quantile, one.keys, one.models) == (other.hour, other.quantile, other.keys, other.models)
    assert one.correlation == other.correlation
    for name in ("mean", "sigma", "upper"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def store(control: MongoClient, unique_name: str) -> MongoForecastStore:
    return MongoForecastStore(control[unique_name])


def test_what_was_saved_is_loaded_bit_for_bit_whatever_the_keys_are_called(store: MongoForecastStore) -> None:
    keys = ["plain", "with space", "$dollar.and.dot", "ключ/é", "", "0", "a" * 300]
    store.begin(HOUR, 1)
    store.save_chunk(0, batch(keys))
    assert_same(store.load(HOUR), batch(keys))


def test_chunks_are_joined_in_order_and_saving_twice_changes_nothing(store: MongoForecastStore) -> None:
    store.begin(HOUR, 2)
    for chunk in (1, 0, 1):
        store.save_chunk(chunk, batch([f"{chunk}-{i}" for i in range(3)], seed=chunk))
    loaded = store.load(HOUR)
    assert loaded.keys == ("0-0", "0-1", "0-2", "1-0", "1-1", "1-2")
    np.testing.assert_array_equal(loaded.mean[3:], batch(["x"] * 3, seed=1).mean)


@pytest.mark.parametrize(
    ("measured", "expected"), [((0.2, 0.6), 0.5), ((None, 0.6), 0.6), ((0.0, None), 0.0), ((None, None), None)]
)
def test_the_correlation_of_errors_is_the_mean_of_the_chunks_that_measured_it(
    store: MongoForecastStore, measured: tuple[float | None, ...], expected: float | None
) -> None:
    store.begin(HOUR, 2)
    for chunk, (correlation, keys) in enumerate(zip(measured, (["a"], ["b", "c", "d"]), strict=True)):
        store.save_chunk(chunk, replace(batch(keys), correlation=correlation))
    found = store.load(HOUR).correlation
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_missing_chunk_is_named(store: MongoForecastStore) -> None:
    with pytest.raises(MissingStageResult, match="no forecasts for"):
        store.load(HOUR)
    store.begin(HOUR, 3)
    store.save_chunk(0, batch(["a"]))
    with pytest.raises(MissingStageResult, match="forecast chunks 1, 2"):
        store.load(HOUR)


def test_beginning_again_with_fewer_chunks_forgets_the_rest_and_other_hours_stay(store: MongoForecastStore) -> None:
    store.begin(HOUR, 2)
    store.save_chunk(0, batch(["a"]))
    store.save_chunk(1, batch(["b"]))
    store.begin(HOUR + timedelta(hours=1), 1)
    store.begin(HOUR, 1)
    assert store.load(HOUR).keys == ("a",)


def test_a_large_chunk_is_cut_into_parts_and_replaced_whole(
    store: MongoForecastStore, monkeypatch: pytest.MonkeyPatch, control: MongoClient, unique_name: str
) -> None:
    monkeypatch.setattr(mongo_forecast, "PART_VALUES", 24 * 10)
    keys = [f"k{i:03}" for i in range(95)]
    store.begin(HOUR, 1)
    store.save_chunk(0, batch(keys))
    assert_same(store.load(HOUR), batch(keys))
    assert control[unique_name]["forecasts"].count_documents({"chunk": 0}) == 10
    store.save_chunk(0, batch(keys[:5]))
    assert_same(store.load(HOUR), batch(keys[:5]))


def test_an_hour_without_keys_loads_as_an_empty_batch(store: MongoForecastStore) -> None:
    store.begin(HOUR, 0)
    assert store.load(HOUR).keys == ()


def series(count: int) -> SeriesMatrix:
    costs = np.random.default_rng(1).poisson(3.0, (count, 48)).astype(np.float32)
    counted = np.ones(48, dtype=bool)
    counted[7] = False
    return SeriesMatrix(HOUR, tuple(f"key {i}\n" for i in range(count)), costs, counted)


def test_each_chunk_of_the_series_file_has_its_own_keys_and_nothing_is_lost(work_folder: Path) -> None:
    store, whole = ParquetSeriesStore(work_folder), series(25)
    assert store.save(whole, 10, BASIS) == 3
    chunks = [store.load_chunk(HOUR, chunk) for chunk in range(3)]
    assert [len(chunk.keys) for chunk in chunks] == [10, 10, 5]
    assert sum((chunk.keys for chunk in chunks), ()) == whole.keys
    np.testing.assert_array_equal(np.concatenate([chunk.costs for chunk in chunks]), whole.costs)
    for chunk in chunks:
        assert chunk.hour == HOUR
        np.testing.assert_array_equal(chunk.counted, whole.counted)


def test_series_are_replaced_whole_and_leave_no_partial_file(work_folder: Path) -> None:
    store = ParquetSeriesStore(work_folder)
    store.save(series(25), 10, BASIS)
    assert store.save(series(4), 10, BASIS) == 1
    assert [path.name for path in (work_folder / "series").iterdir()] == ["2026-03-01T23.parquet"]
    with pytest.raises(MissingStageResult, match="series chunk 1"):
        store.load_chunk(HOUR, 1)
    with pytest.raises(MissingStageResult, match="no series"):
        store.load_chunk(HOUR - timedelta(hours=1), 0)
    assert store.save(series(0), 10, BASIS) == 0


def test_a_series_file_says_what_it_was_made_from_and_the_newest_is_found(work_folder: Path) -> None:
    store = ParquetSeriesStore(work_folder)
    assert (store.latest(HOUR, HOUR + timedelta(hours=9)), store.basis(HOUR)) == (None, None)
    store.save(series(4), 10, BASIS)
    assert store.basis(HOUR) == BASIS
    assert store.latest(HOUR, HOUR + timedelta(hours=9)) == HOUR
    assert store.latest(HOUR - timedelta(hours=9), HOUR) is None
