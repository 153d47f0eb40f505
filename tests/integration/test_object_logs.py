"""Logs in object stores: fsspec's memory and local file systems, and an S3 server on this machine."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from foreshard.errors import ConfigurationError, CorruptLog
from foreshard.model import ONE_HOUR, hour_floor
from foreshard.settings import ObserveSettings, Settings
from foreshard.stages.observing.check_log import check_log
from foreshard.wiring import Wiring

HOUR = hour_floor(datetime.now(UTC)) - 2 * ONE_HOUR


def lines(count: int, hour: datetime = HOUR, key: str = "k") -> bytes:
    record = '{{"timestamp": "{}", "partitionable_key": "{} {}", "request_type": "read", "user_id": "ann"}}\n'
    return "".join(record.format((hour + timedelta(seconds=n)).isoformat(), key, n) for n in range(count)).encode()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, unique_name: str) -> Iterator[str]:
    """The address of a bucket of an S3 server on this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(f"s3://{unique_name}")
    yield f"s3://{unique_name}"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://shop-logs"
    fsspec.filesystem("memory").rm("/shop-logs", recursive=True)


@pytest.fixture(params=["memory", "file", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file://{tmp_path}/shop-logs" if request.param == "file" else request.getfixturevalue(request.param)


def put(address: str, content: bytes) -> None:
    system, path = fsspec.core.url_to_fs(address)
    system.makedirs(path.rpartition("/")[0], exist_ok=True)
    with system.open(path, "wb") as file:
        file.write(content)


def wired(tmp_path: Path, *places: str) -> Wiring:
    observe = ObserveSettings(access_log_paths=places)
    return Wiring(Settings.load(data_dir=tmp_path / "data", user_key="a key for tests of thirty-two bytes", observe=observe))


def keys(wiring: Wiring, hour: datetime = HOUR) -> list[str]:
    found = list(wiring.access_log.read_hour(hour))
    return sorted(pd.concat([one if isinstance(one, pd.DataFrame) else one.to_pandas() for one in found])["partitionable_key"])


def test_objects_below_a_folder_and_of_a_pattern_are_read_and_no_copy_is_left(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = tmp_path / "tmp"
    spare.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spare))
    put(f"{bucket}/day/a.jsonl", lines(3) + lines(2, HOUR + ONE_HOUR))
    put(f"{bucket}/day/deep/b.jsonl.gz", gzip.compress(lines(2, key="z")))
    put(f"{bucket}/day/readme.txt", b"no log")
    assert keys(wired(tmp_path, f"{bucket}/day")) == ["k 0", "k 1", "k 2", "z 0", "z 1"]
    assert keys(wired(tmp_path, f"{bucket}/day/*.jsonl")) == ["k 0", "k 1", "k 2"]
    assert keys(wired(tmp_path, f"{bucket}/day/a.jsonl"), HOUR + ONE_HOUR) == ["k 0", "k 1"]
    assert list(spare.iterdir()) == []


def test_objects_and_local_files_are_read_together(memory: str, tmp_path: Path) -> None:
    put(f"{memory}/a.jsonl", lines(1))
    (tmp_path / "b.jsonl").write_bytes(lines(1, key="z"))
    assert keys(wired(tmp_path, f"{memory}/a.jsonl", str(tmp_path / "b.jsonl"))) == ["k 0", "z 0"]


def test_a_log_that_is_there_packed_and_unpacked_is_refused(memory: str, tmp_path: Path) -> None:
    put(f"{memory}/a.jsonl", lines(1))
    put(f"{memory}/a.jsonl.gz", gzip.compress(lines(1)))
    with pytest.raises(CorruptLog, match="would count twice"):
        keys(wired(tmp_path, memory))


def test_objects_that_ended_long_before_the_hour_are_not_copied(tmp_path: Path) -> None:
    old, new = tmp_path / "logs" / "old.jsonl", tmp_path / "logs" / "new.jsonl"
    new.parent.mkdir()
    new.write_bytes(lines(2))
    old.write_bytes(b"{broken" * 10)
    os.utime(old, ((HOUR - timedelta(days=2)).timestamp(),) * 2)
    assert keys(wired(tmp_path, f"file://{tmp_path}/logs")) == ["k 0", "k 1"]


def test_a_store_without_the_log_or_the_package_or_that_nobody_knows_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CorruptLog, match="there is no log file of such a name"):
        keys(wired(tmp_path, "memory://nowhere"))
    with pytest.raises(ConfigurationError, match="an address of s3:// has credentials in it") as raised:
        keys(wired(tmp_path, "s3://key:secret@shop-logs/a.jsonl"))
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="Protocol not known: shop"):
        keys(wired(tmp_path, "shop://a"))
    monkeypatch.delitem(sys.modules["fsspec.registry"].__dict__["_registry"], "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigurationError, match="s3:// needs a package that is not installed; pip install s3fs"):
        keys(wired(tmp_path, "s3://shop-logs"))


def test_a_check_of_an_object_reads_a_sample(bucket: str, tmp_path: Path) -> None:
    put(f"{bucket}/a.csv", b"time;tenant;verb\n2026-03-01T08:00:00Z;k;read\n")
    found = check_log(wired(tmp_path), f"{bucket}/a.csv")
    assert (found.accepted, found.proposal is not None, found.fields) == (1, True, ("time", "tenant", "verb"))
