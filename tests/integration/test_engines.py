"""Polars and Spark count the same hour byte for byte. Spark needs PySpark and a Java 17 of the system."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from foreshard.errors import ConfigurationError
from foreshard.model import ONE_HOUR
from foreshard.model.key_space import KeyType
from foreshard.observe import engines
from foreshard.observe.batches import ACCEPTED, accepted_table
from foreshard.observe.checks import certain_numbers, certain_texts
from foreshard.observe.engines import NAME, Engine, PolarsFrames
from foreshard.observe.pairs import co_access
from foreshard.observe.pairs.co_access import CoAccessRules
from foreshard.observe.pseudonym import pseudonym
from foreshard.observe.units import UnitRule
from foreshard.settings import ObserveEngine
from foreshard.stages.observe import COUNTED, UNNAMED, CountedHour, TallyRules, count_hours
from foreshard.stages.units import UnitChoice
from foreshard.stores.engines import polars_engine
from foreshard.stores.engines.polars_engine import PolarsEngine
from foreshard.stores.engines.spark_engine import SparkEngine
from foreshard.stores.files.raw_hours import ParquetHourStore
from foreshard.stores.files.tally_files import TallyFiles

POLARS = PolarsFrames()
HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
SMALL = {
    "spark.driver.memory": "1g",
    "spark.log.level": "ERROR",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
"""Options that shorten queries on small frames: nothing is compiled that runs for a moment only. Two partitions remain, so
rows are still spread and numbered over several."""
SECRET = b"a secret key of a test, of 32 b."
EVERY_KEY = UnitChoice(UnitRule(0.0, 10**9), 10**9, False, frozenset(), frozenset())
SOME_KEYS = UnitChoice(UnitRule(0.0, 9), 0, True, frozenset({"key 1"}), frozenset({"key 2"}))

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # PySpark leaves sockets to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkEngine]:
    pytest.importorskip("pyspark", reason="PySpark is not installed (requirements-dev.txt)")
    if shutil.which("java") is None:
        pytest.skip("no java on the path: Spark needs Java 17 of the system, such as openjdk-17-jre-headless")
    with SparkEngine("local[2]", SMALL) as engine:
        yield engine


def records(hour: datetime, seed: int, number: int = 700) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    users, sessions = random.integers(0, 40, number), random.integers(0, 120, number)
    times = random.integers(0, 600, number) * 6_000_000  # many at the same time
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(hour) + pd.to_timedelta(times, unit="us"),
            "partitionable_key": [f"key {n}" if n % 7 else f"Zürich/{n}東" for n in random.zipf(1.4, number) % 60],
            "user_id": [pseudonym(SECRET, f"u{n}") if n % 5 else None for n in users],
            "request_type": random.choice(["read", "write"], number),
            "location": [["a", "unknown", None][n] for n in random.integers(0, 3, number)],
            "session_id": [pseudonym(SECRET, f"s{n}", b"session") if n % 3 else None for n in sessions],
            "cost": np.where(random.random(number) < 0.3, np.nan, random.choice([0.1, 0.3, 1e-9, 2.5e18, 7.0], number)),
        }
    )


def files_of(engine: Engine, folder: Path, units: UnitChoice, window: timedelta) -> tuple[CountedHour, list[str]]:
    """Count the hour in ``folder`` and the one before. Return the tally, and the digests of its files."""
    store = ParquetHourStore(folder)
    rules = TallyRules({"read": 1.0, "write": 2.5}, CoAccessRules(window, maximum_keys=9, maximum_pairs=300), units)
    paths = [store.describe(hour).accepted_path for hour in (HOUR - ONE_HOUR, HOUR)]
    (counted,) = count_hours(engine, rules, [HOUR], engine.coded_files(paths, COUNTED, UNNAMED))
    TallyFiles(folder).save(HOUR, "x", counted.key_load, counted.co_access)
    found = sorted([*folder.glob("tally/**/*.parquet"), *folder.glob("co-access/**/*.parquet")])
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in found]
    for path in found:
        path.unlink()
    return counted, digests


@pytest.mark.parametrize(
    ("units", "window", "seed"), [(EVERY_KEY, timedelta(minutes=5), 1), (SOME_KEYS, timedelta(minutes=11, seconds=37), 2)]
)
def test_an_hour_has_the_same_bytes_by_polars_and_by_spark(
    spark: SparkEngine, tmp_path: Path, units: UnitChoice, window: timedelta, seed: int
) -> None:
    store = ParquetHourStore(tmp_path)
    for hour in (HOUR - ONE_HOUR, HOUR):
        store.save(hour, records(hour, seed), pd.DataFrame())
    by_spark, spark_files = files_of(spark, tmp_path, units, window)
    with PolarsEngine(tmp_path) as polars:
        by_polars, polars_files = files_of(polars, tmp_path, units, window)
    assert len(by_polars.key_load) > 100
    assert len(by_polars.co_access) > 5
    assert len(polars_files) == 2
    assert spark_files == polars_files
    assert len(by_spark.key_load) == len(by_polars.key_load)


@pytest.mark.parametrize(("units", "at_once"), [(EVERY_KEY, 10**9), (SOME_KEYS, 300)])
def test_an_hour_has_the_same_bytes_if_it_is_counted_in_a_stream_and_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, units: UnitChoice, at_once: int
) -> None:
    store, window = ParquetHourStore(tmp_path), timedelta(minutes=5)
    for hour in (HOUR - ONE_HOUR, HOUR):
        store.save(hour, records(hour, 3, 2_000), pd.DataFrame())
    with PolarsEngine(tmp_path) as engine:
        _, in_memory = files_of(engine, tmp_path, units, window)
    monkeypatch.setattr(polars_engine, "SPILLED_RECORDS", 100)
    monkeypatch.setattr(engines, "RECORDS_OF_A_PART", at_once)
    monkeypatch.setattr(co_access, "PAIRS_KEPT", 50)
    with PolarsEngine(tmp_path) as engine:
        counted, in_a_stream = files_of(engine, tmp_path, units, window)
    assert in_a_stream == in_memory
    assert len(counted.co_access) > 5


@pytest.mark.parametrize("key_type", list(KeyType))
def test_both_are_certain_of_the_same_records(spark: SparkEngine, key_type: KeyType) -> None:
    texts = [
        "",
        " a",
        "a",
        "a\nb",
        "12\n",
        "-3",
        "0",
        "007",
        "9" * 18,
        "9" * 19,
        "x" * 257,
        "ab" * 12,
        "é",
        "東京",
        "a\0b",
        "\x1f1",
    ]
    texts += ["12345678-1234-1234-1234-123456789abc", None]
    number = len(texts)
    times = [HOUR + timedelta(minutes=20 * at - 40) for at in range(number)]
    costs = [*([None, 0.0, -1.0, 5.0, float("inf"), 1e308] * number)][:number]
    moments = pa.array(times, ACCEPTED.field("timestamp").type)
    given = pa.table({NAME: pa.array(texts, pa.string()), "timestamp": moments, "cost": pa.array(costs, pa.float64())})
    names = ("request_type", "partitionable_key", "user_id")
    flags = {name: certain_texts(name, ["a", "0", "x"], key_type) for name in names}
    flags["numbers"] = certain_numbers(HOUR, HOUR + ONE_HOUR)
    answers = [engine.table(engine.of_table(given).select(**flags)).to_pydict() for engine in (spark, POLARS)]
    assert answers[0] == answers[1]
    assert all(set(answer) == {True, False} for answer in answers[0].values())


def test_spark_is_chosen_by_a_setting_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without_pyspark(name: str, *rest: object, **named: object) -> object:
        if name.startswith("pyspark"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_pyspark)
    with pytest.raises(ConfigurationError, match=r"foreshard\[spark\]") as refused, SparkEngine("local[2]", {}):
        pass
    assert "\n" not in str(refused.value)
    assert ObserveEngine("spark") is ObserveEngine.SPARK


def test_accepted_records_have_the_types_that_both_engines_read() -> None:
    assert accepted_table(records(HOUR, 3)).schema == ACCEPTED
