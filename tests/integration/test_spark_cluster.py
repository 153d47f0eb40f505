"""An hour is read and counted by a standalone Spark cluster as by one process, byte for byte.

The cluster has a master and two workers on this machine. It needs PySpark and a Java 17 of the system.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.mixed_logs import HOUR, json_lines, mixed_logs, records
from tests.integration.spark_cluster import Running, running_cluster

import foreshard
from foreshard.errors import ClusterFailed, ConfigurationError, CorruptLog, MissingSecret
from foreshard.model import ONE_HOUR
from foreshard.observe.reading import HourRules
from foreshard.settings import ObserveSettings, Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.observe import extract_hour, tally_hour
from foreshard.stores.engines import spark_reading
from foreshard.stores.engines.executors import Executors
from foreshard.stores.engines.spark_reading import SparkReader
from foreshard.stores.files.log_parts import SourceVerdict
from foreshard.wiring import Wiring

SECRET = "a secret of the tests of 32 bytes"

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # PySpark leaves sockets to the collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("pyspark", reason="PySpark is not installed (requirements-dev.txt)")
    if shutil.which("java") is None:
        pytest.skip("no java on the path: Spark needs Java 17 of the system, such as openjdk-17-jre-headless")
    with running_cluster(tmp_path_factory.mktemp("spark")) as made:
        yield made


@pytest.fixture(autouse=True)
def small_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_reading, "BUNDLE_BYTES", 8_000)


def wired(data: Path, log: Path | str, running: Running | None, **more: Any) -> Wiring:
    on_spark = {"engine": "spark", "spark_master": running.cluster.master, "spark_options": running.options} if running else {}
    observe = ObserveSettings(access_log_paths=(str(log),), **on_spark)
    return Wiring(Settings.load(**{"data_dir": data, "user_key": SECRET, "observe": observe, **more}))


def hour_of(wiring: Wiring, hour: datetime = HOUR) -> dict[str, Any]:
    """Extract an hour. Return all that was saved of it, in order."""
    raw = extract_hour(wiring, hour)
    quarantine = sorted(wiring.settings.data_dir.glob(f"quarantine/date=*/hour={hour:%H}.parts/*.parquet")) or [
        raw.quarantine_path
    ]
    bad = [pq.read_table(path) for path in quarantine if path]
    return {
        "accepted": pa.Table.from_pandas(wiring.raw_hours.load(hour)),
        "quarantined": pa.concat_tables(bad) if bad else None,
        "reasons": wiring.raw_hours.reasons(hour),
        "numbers": (raw.accepted, raw.quarantined, raw.duplicates, raw.records, raw.source),
        "notes": raw.notes,
    }


def tally_files(wiring: Wiring) -> dict[str, str]:
    data = wiring.settings.data_dir
    paths = [*data.glob("tally/**/*.parquet"), *data.glob("co-access/**/*.parquet")]
    return {path.relative_to(data).parts[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_same_folder_gives_the_same_hour_and_the_same_tally(
    running: Running, mongods: tuple[Mongod, ...], unique_name: str, tmp_path: Path
) -> None:
    log = mixed_logs(tmp_path / "logs")
    found = []
    for name, on in (("here", None), ("cluster", running)):
        control = {"control_uri": mongods[0].uri, "control_database": f"{unique_name}{name}"}
        with wired(tmp_path / name, log, on, **control) as wiring:
            before, hour = hour_of(wiring, HOUR - ONE_HOUR), hour_of(wiring)
            summary = tally_hour(wiring, HOUR)
            found.append((before, hour, summary, tally_files(wiring)))
            wiring.control.drop_database(f"{unique_name}{name}")
    here, cluster = found
    assert here == cluster
    before, hour, summary, tallies = here
    assert hour["numbers"][0] > 2000
    assert hour["numbers"][2] > 100
    assert len(hour["reasons"]) >= 4
    assert before["quarantined"] is not None
    assert (summary.pairs > 10, len(tallies)) == (True, 2)
    assert [note.partition(": ")[0].rpartition("/")[2] for note in hour["notes"]] == ["c.csv.gz", "d.jsonl.gz"]
    assert len(wired(tmp_path / "cluster", log, None).raw_hours.describe(HOUR).parts) > 4


def test_a_second_run_leaves_the_same_files(running: Running, tmp_path: Path) -> None:
    log, data = tmp_path / "logs", tmp_path / "data"
    log.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        (log / f"{name}.jsonl").write_bytes(json_lines(records(300, seed, first_id=0)))
    first = hour_of(wired(data, log, running))
    assert first["numbers"][2] > 50
    saved = {path: path.read_bytes() for path in files(data)}
    assert hour_of(wired(data, log, running)) == first
    assert {path: path.read_bytes() for path in files(data)} == saved
    assert not list(data.rglob("*reading*"))


def test_objects_are_copied_and_read_by_the_executors(running: Running, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / "logs" / f"{name}.jsonl").write_bytes(json_lines(records(200, seed, first_id=0)))
    address = f"file://{tmp_path}/logs"
    assert hour_of(wired(tmp_path / "cluster", address, running)) == hour_of(wired(tmp_path / "here", address, None))


def test_what_one_process_refuses_the_cluster_refuses_with_the_same_line(running: Running, tmp_path: Path) -> None:
    log = tmp_path / "logs"
    log.mkdir()
    good = json_lines(records(300, 1))
    (log / "a.jsonl").write_bytes(good)
    (log / "b.jsonl.gz").write_bytes(gzip.compress(json_lines(records(3000, 2)), mtime=0)[:-3000])
    said = []
    for on in (None, running):
        data = tmp_path / f"data-{on is None}"
        with pytest.raises(CorruptLog) as refused:
            extract_hour(wired(data, log, on), HOUR)
        said.append(str(refused.value))
        assert files(data) == []
        with pytest.raises(MissingSecret) as refused_key:
            extract_hour(wired(data, log / "a.jsonl", on, user_key=None), HOUR)
        said.append(str(refused_key.value))
        assert files(data) == []
    assert said[:2] == said[2:]
    assert "b.jsonl.gz" in said[0]


def test_an_hour_without_identities_needs_no_key(running: Running, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    good = records(100, 1).query("request_type != 'nobody knows' and not cost < 0")
    log.write_bytes(json_lines(good.drop(columns=["user_id", "session_id"])))
    assert hour_of(wired(tmp_path / "data", log, running, user_key=None))["numbers"][0] > 10


class TestExecutors:
    def test_one_without_foreshard_is_refused(self, running: Running, tmp_path: Path) -> None:
        log = tmp_path / "a.jsonl"
        log.write_bytes(json_lines(records(9, 1)))
        wiring = wired(tmp_path / "data", log, running)
        other = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        observe = wiring.settings.observe
        options = {**observe.spark_options, "spark.pyspark.python": str(other)}
        reader = SparkReader(wiring.access_log, observe.spark_master, options)
        with (
            pytest.raises(
                ConfigurationError, match=rf"executor on \S+ \({other}\) has no foreshard; install foreshard"
            ) as refused,
            wiring.raw_hours.writer(HOUR) as writer,
        ):
            reader.read(HourRules(HOUR, ("read",), wiring.settings.key_type), lambda: b"k" * 32, writer, print)
        assert "\n" not in str(refused.value)
        assert files(tmp_path / "data") == []

    def test_one_with_another_version_is_refused(self, running: Running, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(foreshard, "__version__", "9.9.9")
        with pytest.raises(ConfigurationError, match=r"has foreshard 0\.\S+; install foreshard 9\.9\.9 on all executors"):
            Executors(running.session, tmp_path).check()

    def test_one_that_sees_another_data_folder_is_refused(self, running: Running, tmp_path: Path) -> None:
        executors = Executors(running.session, tmp_path)
        (tmp_path / "probe").write_text("of another machine")
        with pytest.raises(ConfigurationError, match=r"can't see \S+; put FORESHARD_DATA_DIR on storage"):
            executors.check()

    def test_one_that_does_not_see_the_log_is_refused(self, running: Running, tmp_path: Path, monkeypatch: Any) -> None:
        log = tmp_path / "a.jsonl"
        log.write_bytes(json_lines(records(9, 1)))
        wiring = wired(tmp_path / "data", log, running)
        whole = wiring.access_log.parts

        def gone(*given: Any) -> Any:
            parts = whole(*given)
            monkeypatch.setattr(type(parts[0][0]), "is_there", lambda _part: True)
            log.unlink()
            return parts

        monkeypatch.setattr(wiring.access_log, "parts", gone)
        with pytest.raises(ConfigurationError, match=r"the executor on \S+ does not see \S+a\.jsonl; put the logs on storage"):
            extract_hour(wiring, HOUR)
        assert files(tmp_path / "data") == []

    def test_one_that_fails_fails_the_run_in_one_line_and_nothing_is_left(self, running: Running, tmp_path: Path) -> None:
        wiring = wired(tmp_path / "data", tmp_path, running)
        reader = SparkReader(Broken(), running.cluster.master, running.options)
        with (
            pytest.raises(ClusterFailed, match=r"the cluster at spark://\S+ failed: .*nothing was saved") as failed,
            wiring.raw_hours.writer(HOUR) as writer,
        ):
            reader.read(HourRules(HOUR, ("read",), wiring.settings.key_type), lambda: b"k" * 32, writer, print)
        assert "\n" not in str(failed.value)
        assert "ZeroDivisionError" in str(failed.value)
        assert files(tmp_path / "data") == []


class Divides:
    """Fails where it is unpickled."""

    def __reduce__(self) -> Any:
        return divmod, (1, 0)


class Broken:
    """A source whose only part breaks each executor that reads it."""

    def parts(self, hour: datetime, note: Any, _most: int | None) -> Any:
        return [BrokenPart()], SourceVerdict("broken", hour, note, 1, 0)


class BrokenPart:
    place, size, form, piece, earlier = "broken", 1, None, None, ()

    def is_there(self) -> bool:
        return True

    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def test_the_secret_and_raw_ids_are_in_no_file_of_the_cluster_or_the_data_folder(running: Running, tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    log.write_bytes(json_lines(records(200, 1)))
    assert hour_of(wired(tmp_path / "data", log, running))["numbers"][0] > 20
    secret = SECRET.encode()
    hidden = [secret, secret.hex().encode(), base64.b64encode(secret)[:-4], b"rider-"]
    places = [running.events, running.cluster.folder, tmp_path / "data"]
    looked = [path for place in places for path in files(place) if path.suffix not in (".jar", ".pyc")]
    assert [path for path in looked if path.is_relative_to(running.events)]
    assert [path for path in looked if path.name == "stderr"]
    leaks = [path for path in looked if any(text in path.read_bytes() for text in hidden)]
    assert leaks == []


@pytest.mark.parametrize("moment", range(int(os.environ.get("FORESHARD_SPARK_KILLS", "1"))))
def test_a_worker_that_dies_during_the_job_changes_nothing(running: Running, tmp_path: Path, moment: int) -> None:
    """``moment``: how many of the job's files there are when it dies. `make nightly` tries more of them."""
    running.cluster.add_workers()
    log, data = tmp_path / "logs", tmp_path / "data"
    log.mkdir()
    for number in range(8):
        (log / f"{number}.jsonl").write_bytes(json_lines(records(6000, number, first_id=4000 * number)))
    answers: list[dict[str, Any]] = []
    reading = threading.Thread(target=lambda: answers.append(hour_of(wired(data, log, running))))
    reading.start()
    while reading.is_alive() and len(list(data.glob("raw/date=*/*.reading-*/*.parquet"))) <= 4 * moment:
        time.sleep(0.01)
    assert reading.is_alive()
    running.cluster.kill_worker()
    reading.join(120)
    assert answers == [hour_of(wired(tmp_path / "here", log, None))]
    assert not list(data.rglob("*reading*"))


@pytest.mark.parametrize("place", [None, "mongodb://host/shop"])
def test_a_source_that_can_not_be_split_is_read_by_the_task(tmp_path: Path, place: str | None) -> None:
    observe = ObserveSettings(access_log_paths=(place,) if place else (), engine="spark")
    with Wiring(Settings.load(data_dir=tmp_path, user_key=SECRET, observe=observe)) as wiring:
        assert wiring.hour_reader is None
