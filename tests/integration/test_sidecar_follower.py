"""The follower with a real control database: every change arrives, outages are survived, versions are acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pymongo import MongoClient
from tests.sidecar_config import CONFIG
from tests.slots import slot_map

from foreshard.model import (
    Location,
    Partition,
    PartitionLoad,
    Placement,
    PlacementChange,
    RequestKind,
    RoutingTable,
)
from foreshard.model.key_space import slot_unit
from foreshard.routing.decision import RouteRequest
from foreshard.routing.packed import PackedPlacements
from foreshard.sidecar._follower import Follower
from foreshard.sidecar._live_copy import LiveCopy
from foreshard.sidecar._saved_copy import SavedCopy
from foreshard.sidecar._service import RouteService
from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod
from foreshard.stores.control.control_feed import MongoControlFeed
from foreshard.stores.control.partition_loads import MongoLoadStore
from foreshard.stores.control.registry import MongoPartitionRegistry
from foreshard.stores.control.routing.store import MongoRoutingStore
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile, name_of

RULE = slot_map(("alpha", "beta"), (1.0, 1.0))
NOW = datetime(2025, 1, 1, tzinfo=UTC)
PATIENCE = 20.0


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds; fail after a while."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def first_table(keys: int = 5) -> RoutingTable:
    return RoutingTable(1, {f"k{n}": Placement(f"k{n}", "alpha") for n in range(keys)}, RULE, NOW)


class Control:
    """A control database and one follower of it."""

    def __init__(self, client: MongoClient, name: str, folder) -> None:
        self.database = client[name]
        self.routing, self.registry = MongoRoutingStore(self.database), MongoPartitionRegistry(self.database)
        self.loads, self.file = MongoLoadStore(self.database), RoutingFile(folder / "routing")
        self.service = RouteService(CONFIG)
        self.follower = self.another()

    def another(self) -> Follower:
        feed = MongoControlFeed(self.database)
        self.saved = SavedCopy(self.service, self.file)
        live = LiveCopy(LiveRoutingFile(self.file.folder))
        return Follower(self.service, self.routing, self.registry, self.loads, feed, self.saved, live, "tested")

    def register(self) -> None:
        places = [Location("here", 0, 0), Location("there", 10, 10)]
        found = [Partition("alpha", "here", 10, "mongodb://u:p@alpha/"), Partition("beta", "there", 10, "mongodb://beta/")]
        self.registry.register(found, places)

    def version(self) -> int:
        return self.service.installed.table.version if self.service.installed else 0

    def route(self, key: str, kind: RequestKind = RequestKind.READ, origin: str = "there") -> dict:
        return self.service.route(RouteRequest(key, kind, origin))[1]


@pytest.fixture
def control(control: MongoClient, unique_name, work_folder) -> Iterator[Control]:
    made = Control(control, unique_name, work_folder)
    yield made
    made.follower.stop()


def test_a_sidecar_started_before_the_first_table_installs_it_when_it_is_published(control):
    control.follower.start()
    until(lambda: control.service.connected)
    control.register()
    control.routing.initialise(first_table())
    until(lambda: control.version() == 1 and control.service.partitions)
    assert control.route("k1")["uri"] == "mongodb://alpha/"


def test_publications_arrive_and_are_acknowledged(control):
    control.register()
    control.routing.initialise(first_table())
    control.follower.start()
    until(lambda: control.version() == 1)
    control.routing.publish([PlacementChange("k1", "beta", (), 1, 2), PlacementChange("new", "beta", (), 0, 1)], "move")
    home = control.routing.placement("never listed")
    slot = slot_unit(control.routing.space().slot_of("never listed"))
    control.routing.publish([PlacementChange(slot, "beta", (), home.epoch, home.epoch + 1)], "move of a slot")
    until(lambda: control.version() == 3)
    assert control.route("k1") == control.route("k1") | {"partition": "beta", "epoch": 2, "table_version": 3}
    assert control.route("new")["epoch"] == 1
    assert control.route("never listed")["partition"] == "beta"
    recently = datetime.now(UTC) - timedelta(minutes=1)
    until(lambda: control.routing.acknowledged(3, heard_since=recently) == (1, 1))
    control.follower.stop()
    assert control.routing.acknowledged(0, heard_since=recently) == (0, 0)


def test_loads_partitions_and_shadows_are_followed(control):
    control.register()
    control.routing.initialise(first_table())
    control.routing.publish([PlacementChange("k1", "alpha", ("beta",), 1, 2)], "shadow")
    control.follower.start()
    until(lambda: control.version() == 2)
    assert control.route("k1")["reason_code"] == "nearer_stale"
    shadows = control.database["shadows"]
    shadows.insert_one({"_id": "k1|beta", "key": "k1", "target": "beta", "state": "live", "caught_up_at": datetime.now(UTC)})
    until(lambda: control.route("k1")["partition"] == "beta")
    control.loads.report([PartitionLoad("beta", 0.0, False, datetime.now(UTC))])
    until(lambda: control.route("k1")["partition"] == "alpha")
    assert control.route("k1")["reason_code"] == "nearer_unreachable"
    control.loads.report([PartitionLoad("beta", 1.0, True, datetime.now(UTC))])
    until(lambda: control.route("k1")["partition"] == "beta")
    shadows.update_one({"_id": "k1|beta"}, {"$set": {"state": "failed"}})
    until(lambda: control.route("k1")["partition"] == "alpha")
    control.registry.register([Partition("alpha", "here", 10, "mongodb://moved/")], [])
    until(lambda: control.route("k0")["uri"] == "mongodb://moved/")


def test_a_shadow_that_is_deleted_is_forgotten(control):
    control.register()
    control.routing.initialise(first_table())
    control.routing.publish([PlacementChange("k1", "alpha", ("beta",), 1, 2)], "shadow")
    shadows = control.database["shadows"]
    shadows.insert_one({"_id": "k1|beta", "key": "k1", "target": "beta", "state": "live", "caught_up_at": datetime.now(UTC)})
    control.follower.start()
    until(lambda: control.version() == 2 and control.route("k1")["partition"] == "beta")
    shadows.delete_one({"_id": "k1|beta"})
    until(lambda: control.route("k1")["partition"] == "alpha")


def test_a_refresh_reads_what_was_published_before_it(control):
    control.register()
    control.routing.initialise(first_table())
    for version in range(2, 12):
        control.routing.publish([PlacementChange("k1", "beta" if version % 2 else "alpha", (), version - 1, version)], "move")
        assert control.follower.sync() == version
        assert control.version() == version


def test_a_sidecar_that_is_far_behind_reads_the_whole_table(control, monkeypatch):
    monkeypatch.setattr("foreshard.sidecar._follower.MOST_PUBLICATIONS", 3)
    control.register()
    control.routing.initialise(first_table())
    control.follower.sync()
    for version in range(2, 8):
        control.routing.publish([PlacementChange("k1", "beta", (), version - 1, version)], "move")
    assert control.follower.sync() == 7
    assert control.route("k1")["epoch"] == 7


def test_a_gap_in_the_publications_is_closed_by_reading_the_whole_table(control):
    control.register()
    control.routing.initialise(first_table())
    control.follower.sync()
    for version in range(2, 5):
        control.routing.publish([PlacementChange("k1", "beta", (), version - 1, version)], "move")
    control.database["routing_versions"].delete_one({"_id": 3})
    assert control.follower.sync() == 4
    assert control.route("k1")["epoch"] == 4


def test_a_whole_table_is_read_as_its_published_image_and_answered_from_the_mapped_file(control):
    control.register()
    control.routing.initialise(first_table())
    control.routing.publish([PlacementChange("k1", "beta", (), 1, 2)], "move")
    assert control.follower.sync() == 2
    placements = control.service.table().placements
    assert isinstance(placements, PackedPlacements)
    assert set(placements.changed) == {"k1"}
    assert control.file.image() == name_of(placements.base)
    assert (control.route("k1")["epoch"], control.route("k2")["epoch"]) == (2, 1)
    assert [p.partition_id for p in control.file.load().partitions] == ["alpha", "beta"]


def test_a_damaged_image_is_not_used_and_the_rows_are_read(control, caplog):
    control.register()
    control.routing.initialise(first_table())
    control.database["routing_images"].delete_many({})
    assert control.follower.sync() == 1
    assert "its rows are read instead" in caplog.text
    assert control.route("k1")["partition"] == "alpha"


def test_another_table_with_a_lower_version_is_recognised_and_installed(control):
    control.register()
    control.routing.initialise(first_table())
    control.routing.publish([PlacementChange("k1", "beta", (), 1, 2)], "move")
    control.follower.start()
    until(lambda: control.version() == 2)
    for name in ("routing_table", "routing_state", "routing_versions"):
        control.database.drop_collection(name)
    control.routing.initialise(RoutingTable(1, {"other": Placement("other", "beta", (), 5)}, RULE, NOW))
    until(lambda: control.version() == 1)
    assert control.route("other")["epoch"] == 5
    assert control.route("k1")["epoch"] == RULE.of("k1").epoch
    assert control.route("k1")["partition"] == RULE.of("k1").primary


def test_without_a_table_in_the_database_the_last_one_is_used(control):
    control.register()
    control.routing.initialise(first_table())
    control.follower.sync()
    for name in ("routing_table", "routing_state", "routing_versions"):
        control.database.drop_collection(name)
    assert control.follower.sync() == 1
    assert control.version() == 1


def test_a_sidecar_that_starts_without_the_database_uses_the_saved_table(control):
    control.register()
    control.routing.initialise(first_table())
    control.routing.publish([PlacementChange("k1", "beta", (), 1, 2)], "move")
    control.follower.start()
    until(lambda: (saved := control.file.load()) and saved.table.version == 2 and len(saved.partitions) == 2)
    control.follower.stop()
    gone = MongoClient("mongodb://127.0.0.1:1/", serverSelectionTimeoutMS=100)
    alone = Control(gone, "nowhere", control.file.path.parent.parent)
    assert alone.saved.load()
    alone.follower.start()
    until(alone.follower.first_try.is_set)
    assert not alone.service.connected
    assert alone.route("k1") == alone.route("k1") | {"partition": "beta", "epoch": 2, "uri": "mongodb://beta/"}
    assert alone.service.installed.source == "file"
    alone.follower.stop()
    gone.close()


def test_an_outage_of_the_control_database_is_survived(tmp_path):
    mongod = Mongod("outage", free_port(), tmp_path / "mongod")
    mongod.start()
    try:
        with MongoClient(mongod.uri, tz_aware=True, w="majority", serverSelectionTimeoutMS=1000) as client:
            control = Control(client, "outage", tmp_path)
            control.register()
            control.routing.initialise(first_table())
            control.follower.start()
            until(lambda: control.version() == 1)
            mongod.stop()
            until(lambda: not control.service.connected)
            assert control.route("k1")["partition"] == "alpha"
            confirmed = control.service.installed.confirmed_at
            mongod.start()
            control.routing.publish([PlacementChange("k1", "beta", (), 1, 2)], "move")
            until(lambda: control.version() == 2 and control.service.connected)
            assert control.service.installed.confirmed_at > confirmed
            control.follower.stop()
    finally:
        mongod.stop()
