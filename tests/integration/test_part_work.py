"""What an executor does, without a cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.mixed_logs import HOUR, json_lines, records

from foreshard.errors import ClusterFailed, ConfigurationError
from foreshard.model.key_space import KeyType
from foreshard.observe.reading import HourRules
from foreshard.stores.engines.part_work import BUNDLE, HASH, Bundle, BundleWork, bundles_of, read_bundle
from foreshard.stores.engines.spark_session import await_executor, cause_of
from foreshard.stores.files.access_log import FileAccessLog
from foreshard.stores.files.log_parts import LogFilePart
from foreshard.stores.files.log_tables import PLAIN

SECRET = b"a secret of the tests of 32 bytes"
RULES = HourRules(HOUR, ("read", "write", "delete"), KeyType.STRING)


def part(name: str, size: int, piece: tuple[int, ...] | None = None) -> LogFilePart:
    return LogFilePart(Path(name), PLAIN, size, piece)


def test_small_files_are_bundled_and_a_part_of_a_file_is_a_bundle_by_itself() -> None:
    parts = [part("a", 4), part("b", 5), part("c", 3), part("d", 9, (0,)), part("d", 1, (1,)), part("e", 99), part("f", 1)]
    bundles = bundles_of(parts, 10)
    assert [[one.path.name for one in bundle.parts] for bundle in bundles] == [["a", "b"], ["c"], ["d"], ["d"], ["e"], ["f"]]
    assert [bundle.number for bundle in bundles] == list(range(6))
    assert bundles[0].unseen == {"a", "b"}
    assert bundles_of([], 10) == []


def test_the_secret_is_not_shown() -> None:
    assert SECRET.decode() not in repr(BundleWork(RULES, Path(), SECRET))


def test_ids_that_an_earlier_bundle_has_are_dropped_at_the_second_reading(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines(records(200, 1, first_id=0 if name == "a" else 50)))
    parts, _ = FileAccessLog([tmp_path]).parts(HOUR, most=1)
    work = BundleWork(RULES, tmp_path / "out", SECRET)
    work.folder.mkdir()
    reads = [read_bundle(work, bundle) for bundle in bundles_of(parts, 1)]
    ids = [pq.read_table(read.ids).column(HASH).to_numpy() for read in reads if read.ids]
    late = np.intersect1d(*ids)
    assert 0 < len(late) < 100
    folder = tmp_path / "late" / f"{BUNDLE}=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({HASH: late}), folder / "x.parquet")
    again = read_bundle(BundleWork(RULES, work.folder, SECRET, tmp_path / "late"), bundles_of(parts, 1)[1])
    assert again.duplicates == len(late)
    assert again.records.records + len(late) == reads[1].records.records
    assert again.ids is None


def test_a_file_that_only_the_task_sees_is_refused(tmp_path: Path) -> None:
    gone = part(str(tmp_path / "gone.jsonl"), 1)
    work = BundleWork(RULES, tmp_path, SECRET)
    refused = read_bundle(work, Bundle(0, (gone,), frozenset())).error
    assert isinstance(refused, ConfigurationError)
    assert str(gone.path) in str(refused)
    missing = read_bundle(work, Bundle(0, (gone,), frozenset({gone.place})))
    assert missing.error is None
    assert "no such file" in str(missing.found[0].refused)


def test_a_missing_key_is_told_when_there_is_an_identity(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(records(50, 1)))
    (bundle,) = bundles_of(FileAccessLog([path]).parts(HOUR, most=1)[0], 10**6)
    why = ConfigurationError("FORESHARD_USER_KEY", "it is missing", "set it")
    assert read_bundle(BundleWork(RULES, tmp_path, why), bundle).error is why
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl"]
    earlier = HourRules(datetime(2026, 2, 1, tzinfo=UTC), RULES.request_types, RULES.key_type)
    assert read_bundle(BundleWork(earlier, tmp_path, why), bundle).error is None


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("An error occurred\n: a.b.SparkException: too small\n\tat x.y\n", "a.b.SparkException: too small"),
        (
            "Job aborted: z.PythonException: Traceback (most recent):\n  File x\nOSError: disk full\n\nDriver stacktrace:",
            "OSError: disk full",
        ),
        ("Caused by: java.io.IOException: gone", "java.io.IOException: gone"),
        ("something", "something"),
        ("", "Exception"),
    ],
)
def test_the_cause_of_a_failed_job_is_one_line(text: str, cause: str) -> None:
    assert cause_of(Exception(text)) == cause


def test_a_cluster_that_gives_no_executor_is_left_and_a_local_one_needs_none() -> None:
    cluster = MagicMock(master="spark://host:7077")
    cluster._jsc.sc().getExecutorMemoryStatus().size.return_value = 1
    with pytest.raises(ClusterFailed, match=r"no executor came in 0 s: its workers are gone, busy, or smaller"):
        await_executor(cluster, timedelta(0))
    cluster._jsc.sc().getExecutorMemoryStatus().size.return_value = 2
    await_executor(cluster, timedelta(0))
    await_executor(MagicMock(master="local[2]"), timedelta(0))
