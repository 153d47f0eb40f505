"""The table on disk: answers come from its mapping, changes go to the overlay, many changes make a new image."""

from __future__ import annotations

import time

import pytest
from tests.sidecar_config import CONFIG

from foreshard.model import PlacementChange, RequestKind
from foreshard.routing.decision import RouteRequest
from foreshard.routing.packed import PackedPlacements
from foreshard.routing.table import apply_changes
from foreshard.sidecar import _saved_copy as saved_copy
from foreshard.sidecar._saved_copy import SavedCopy
from foreshard.sidecar._service import RouteService
from foreshard.stores.files.routing_file import RoutingFile


@pytest.fixture
def file(tmp_path) -> RoutingFile:
    return RoutingFile(tmp_path / "routing")


@pytest.fixture
def copy(service, file) -> SavedCopy:
    return SavedCopy(service, file)


def publish(service: RouteService, *changes: PlacementChange) -> None:
    before = service.installed
    after = apply_changes(before.table, changes, before.table.version + 1, before.table.published_at)
    service.install_table(after, before.identity, before.source, before.confirmed_at)


def epoch(service: RouteService, key: str) -> int:
    return service.route(RouteRequest(key, RequestKind.WRITE))[1]["epoch"]


def test_a_table_read_from_the_database_is_packed_and_mapped(service, file, copy):
    before = dict(service.table().placements)
    copy.keep(0.0)
    assert isinstance(service.table().placements, PackedPlacements)
    assert dict(service.table().placements) == before
    assert epoch(service, "hot") == 3


def test_publications_are_written_to_the_overlay_and_survive_a_restart(service, file, copy, empty_service):
    copy.keep(0.0)
    image = file.path.read_bytes()
    publish(service, PlacementChange("plain", "sj-1", (), 2, 3))
    copy.keep(0.1)
    assert not list(file.path.parent.glob("overlay-*"))
    copy.keep(10.0)
    assert file.path.read_bytes() == image
    restarted = RouteService(CONFIG)
    assert SavedCopy(restarted, file).load()
    assert (restarted.table().version, epoch(restarted, "plain")) == (8, 3)


def test_many_changes_are_packed_by_another_process_while_more_are_published(service, file, copy, monkeypatch):
    monkeypatch.setattr(saved_copy, "FEW_CHANGES", 2)
    copy.keep(0.0)
    publish(service, *(PlacementChange(f"new {n}", "sj-1", (), 0, 1) for n in range(10)))
    copy.keep(10.0)
    publish(service, PlacementChange("plain", "sj-1", (), 2, 3), PlacementChange("new 3", "sf-1", (), 1, 2))
    deadline = time.monotonic() + 30
    while set(service.table().placements.changed) != {"plain", "new 3"}:
        assert time.monotonic() < deadline
        copy.keep(10.0)
        time.sleep(0.02)
    assert (epoch(service, "plain"), epoch(service, "new 3"), epoch(service, "new 4")) == (3, 2, 1)
    copy.keep(20.0)
    assert file.load().table == service.table()
    copy.close()


def test_an_unwritable_folder_is_a_warning_and_answers_continue(service, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where the folder should be")
    SavedCopy(service, RoutingFile(tmp_path / "taken" / "routing")).keep(0.0)
    assert "can't be saved" in caplog.text
    assert epoch(service, "hot") == 3
