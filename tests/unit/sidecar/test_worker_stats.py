"""Figures of several workers, in shared memory, combined into one."""

from __future__ import annotations

import pytest
from tests.sidecar_config import CONFIG

from foreshard.sidecar._figures import SidecarCounters
from foreshard.sidecar._metrics import SidecarMetrics
from foreshard.sidecar._service import RouteService
from foreshard.sidecar._worker_stats import SHARE_BYTES, WorkerStats


def lines_of(metrics: SidecarMetrics) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_a_worker_publishes_its_newest_figures_and_sees_the_others():
    board = WorkerStats(3)
    assert [board.read(n) for n in range(3)] == [None] * 3
    board.write(1, {"state": {}, "n": 1})
    board.write(2, {"state": {}, "n": 2})
    board.write(1, {"state": {}, "n": 3})
    assert [one["n"] for one in board.others(0)] == [3, 2]
    assert [one["n"] for one in board.others(1)] == [2]


def test_a_slot_being_written_is_skipped_and_a_long_document_is_shortened():
    board = WorkerStats(1)
    board.write(0, {"state": {"partitions": {"p": 1}}, "long": ""})
    board._memory[20] ^= 0xFF
    assert board.read(0) is None
    board.write(0, {"state": {"partitions": {f"partition {n}": [1, 2, 3] for n in range(SHARE_BYTES // 16)}}, "n": 1})
    assert board.read(0) == {"state": {"partitions": {}}, "n": 1}


def test_counters_are_added_and_the_oldest_table_is_shown(service):
    one, other = SidecarCounters(), SidecarCounters(2)
    one.routed("read", "primary", "only_copy", 5)
    other.routed("read", "primary", "only_copy", 7)
    other.times["route"].took(0.002, 7)
    beside = SidecarMetrics(RouteService(CONFIG), other).document()
    shown = lines_of(SidecarMetrics(service, one, lambda: [beside]))
    assert shown['foreshard_sidecar_requests_total{op="read",reason="only_copy",role="primary"}'] == 12
    assert shown['foreshard_sidecar_request_seconds_count{endpoint="route"}'] == 7
    assert shown['foreshard_sidecar_request_seconds_bucket{endpoint="route",le="0.001"}'] == 0
    assert shown['foreshard_sidecar_request_seconds_sum{endpoint="route"}'] == pytest.approx(0.014)
    assert shown["foreshard_sidecar_refused_files_total"] == 2
    assert (shown["foreshard_sidecar_workers"], shown["foreshard_sidecar_table_version"]) == (2, 0)


def test_a_replacement_worker_continues_the_counters():
    before, after = SidecarCounters(), SidecarCounters()
    before.routed("write", "primary", "write_primary", 3)
    before.refused(400, "unknown-op")
    before.times["routes"].took(0.5)
    after.add(before.document())
    assert after.document() == before.document()
