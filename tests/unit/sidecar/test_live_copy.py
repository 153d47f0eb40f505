from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.model import PartitionLoad
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.control_feed import ShadowFreshness
from foreshard.ports.routing_file import LiveRouting
from foreshard.routing.steady import steady_time
from foreshard.sidecar._live_copy import LiveCopy
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import stamp

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
IDLE, BUSY = PartitionLoad("alpha", 1.0, True, NOON), PartitionLoad("beta", 9.0, False, NOON)


def age(folder: Path) -> None:
    """Make the file look old."""
    path, past = folder / "live" / "state.json", time.time() - 10
    os.utime(path, (past, past))


def test_loads_and_freshness_are_written_and_read_back(tmp_path: Path) -> None:
    file = LiveRoutingFile(tmp_path)
    copy = LiveCopy(file)
    copy.install([IDLE], [ShadowFreshness("k", "beta", 1000.5), ShadowFreshness("m", "beta", 2.0)])
    copy.load(BUSY)
    copy.freshen(ShadowFreshness("k", "beta", 1001.5, ClusterTime("alpha", 1_700_000_000, 3)))
    copy.freshen(ShadowFreshness("m", "beta", None))
    copy.keep(0.0)
    read = file.read()
    assert (read.loads, dict(read.caught_up_at)) == ((IDLE, BUSY), {("k", "beta"): 1001.5})
    assert read.applied_to == {("k", "beta"): ClusterTime("alpha", 1_700_000_000, 3)}


def test_a_file_of_an_earlier_release_says_nothing_of_cluster_times(tmp_path: Path) -> None:
    file = LiveRoutingFile(tmp_path)
    file.write(LiveRouting((), {("k", "beta"): 1.0}))
    path = tmp_path / "live" / "state.json"
    document = json.loads(path.read_text())
    del document["applied_to"]
    path.write_text(json.dumps(document))
    assert file.read() == LiveRouting((), {("k", "beta"): 1.0})


def test_only_one_of_several_processes_writes_and_only_changes(tmp_path: Path) -> None:
    file = LiveRoutingFile(tmp_path)
    one, other = LiveCopy(file), LiveCopy(file)
    one.install([IDLE], [])
    other.install([BUSY], [])
    one.keep(0.0)
    other.keep(0.0)
    assert file.read().loads == (IDLE,)
    age(tmp_path)
    old = file.stamp()
    one.keep(10.0)
    assert file.stamp() == old
    other.keep(10.0)
    assert file.read().loads == (BUSY,)


def test_writing_does_not_look_like_a_new_table_and_an_unwritable_folder_is_one_warning(tmp_path: Path, caplog) -> None:
    copy = LiveCopy(LiveRoutingFile(tmp_path))
    copy.install([IDLE], [])
    copy.keep(0.0)
    age(tmp_path)
    seen = stamp(tmp_path)
    copy.load(BUSY)
    copy.keep(10.0)
    assert stamp(tmp_path) == seen
    (tmp_path / "file").touch()
    blocked = LiveCopy(LiveRoutingFile(tmp_path / "file"))
    blocked.install([IDLE], [])
    for now in (0.0, 10.0, 20.0):
        blocked.keep(now)
    assert caplog.text.count("can't be saved") == 1


@pytest.mark.parametrize("hours", [-24, -0.001, 0.001, 24])
def test_a_wall_clock_that_jumps_delays_no_write_and_changes_no_steady_time(tmp_path: Path, monkeypatch, hours) -> None:
    copy = LiveCopy(LiveRoutingFile(tmp_path))
    copy.install([IDLE], [])
    copy.keep(0.0)
    age(tmp_path)
    before, real = steady_time(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3_600)
    copy.load(BUSY)
    copy.keep(10.0)
    assert LiveRoutingFile(tmp_path).read().loads == (IDLE, BUSY)
    assert 0 <= steady_time() - before < 5
