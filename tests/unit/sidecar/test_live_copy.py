from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from foreshard.model import PartitionLoad
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
    copy.install([IDLE], {("k", "beta"): 1000.5, ("m", "beta"): 2.0})
    copy.load(BUSY)
    copy.freshen("k", "beta", 1001.5)
    copy.freshen("m", "beta", None)
    copy.keep(0.0)
    read = file.read()
    assert (read.loads, dict(read.caught_up_at)) == ((IDLE, BUSY), {("k", "beta"): 1001.5})


def test_only_one_of_several_processes_writes_and_only_changes(tmp_path: Path) -> None:
    file = LiveRoutingFile(tmp_path)
    one, other = LiveCopy(file), LiveCopy(file)
    one.install([IDLE], {})
    other.install([BUSY], {})
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
    copy.install([IDLE], {})
    copy.keep(0.0)
    age(tmp_path)
    seen = stamp(tmp_path)
    copy.load(BUSY)
    copy.keep(10.0)
    assert stamp(tmp_path) == seen
    (tmp_path / "file").touch()
    blocked = LiveCopy(LiveRoutingFile(tmp_path / "file"))
    blocked.install([IDLE], {})
    for now in (0.0, 10.0, 20.0):
        blocked.keep(now)
    assert caplog.text.count("can't be saved") == 1
