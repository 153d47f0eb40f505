"""Verification on real partitions: the faults it must find, and the states it must tolerate."""

import itertools
import json
import threading
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from tests.slots import slot_map

from foreshard.cli.verify import verify
from foreshard.errors import Unreachable, VerificationFailed
from foreshard.model import Location, Move, Partition, Placement, Reason, RoutingTable
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import Shadow
from foreshard.ports.verification import ExpectedPlacement
from foreshard.settings import CollectionSetting, Settings
from foreshard.stages import publish
from foreshard.stages import verify as stage
from foreshard.stages.publish import verify_hour
from foreshard.stores.partition._seen_ids import SeenIds
from foreshard.stores.partition.verifier import MongoVerifier
from foreshard.wiring import Wiring

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)


@pytest.fixture
def wiring(mongods, unique_name, work_folder, control, partition_clients):
    """Keys a and b on alpha (b with a shadow on beta), c on beta; unlisted keys are on gamma."""
    collections = tuple(
        CollectionSetting(database=unique_name, collection=name, key_field=field)
        for name, field in (("stations", "station"), ("trips", "at.station"))
    )
    settings = Settings.load(
        control_uri=mongods[0].uri, control_database=unique_name, data_dir=work_folder, collections=collections
    )
    with Wiring(settings) as built:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:]}
        built.registry.register([Partition(name, "here", 10.0, uri) for name, uri in uris.items()], [Location("here", 0, 0)])
        rows = {"a": Placement("a", "alpha"), "b": Placement("b", "alpha", ("beta",)), "c": Placement("c", "beta")}
        built.routing.initialise(RoutingTable(1, rows, slot_map(("gamma",), (1.0,)), HOUR))
        for partition, keys in {"alpha": "ab", "beta": "bc", "gamma": "z"}.items():
            database = partition_clients[partition][unique_name]
            database["stations"].insert_many([{"_id": key, "station": key, "bikes": 3} for key in keys])
            database["trips"].insert_many([{"_id": f"{key}{n}", "at": {"station": key}} for key in keys for n in range(4)])
        built.verifier = MongoVerifier(built.mongo, looks=2, pause=0.01)
        yield built


@pytest.fixture
def data(partition_clients, unique_name):
    return {name: client[unique_name] for name, client in partition_clients.items()}


def test_documents_at_their_partitions_are_counted(wiring):
    summary = verify_hour(wiring, HOUR)
    assert (summary.version, summary.documents, summary.keys) == (1, 20, 4)
    assert (summary.misplaced, summary.duplicated, summary.missing, summary.in_transit) == (0, 0, 0, 0)
    assert (summary.shadow_copies, summary.shadow_documents, summary.shadow_differences) == (1, 5, 0)
    assert summary.figures()[0][1] == "20 documents, 4 keys"


def test_a_document_on_a_wrong_partition_is_misplaced_and_missing_at_its_primary(wiring, data):
    data["gamma"]["trips"].insert_one({"_id": "lost", "at": {"station": "a"}})
    with pytest.raises(
        VerificationFailed, match=r"1 misplaced \(1 of them not at their primary\), 0 doubled.*'lost' \(key 'a'\) on gamma"
    ):
        verify_hour(wiring, HOUR)


def test_a_misplaced_document_that_is_also_at_its_primary_is_doubled(wiring, data):
    data["gamma"]["stations"].insert_one({"_id": "a", "station": "a", "bikes": 3})
    with pytest.raises(VerificationFailed, match=r"1 misplaced \(0 of them not at their primary\), 1 doubled"):
        verify_hour(wiring, HOUR)


def test_one_id_that_is_a_primary_of_two_keys_on_two_partitions_is_doubled(wiring, data):
    data["beta"]["trips"].insert_one({"_id": "a1", "at": {"station": "c"}})
    with pytest.raises(VerificationFailed, match="'a1' is a primary on alpha and beta"):
        verify_hour(wiring, HOUR)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trips: trips.delete_one({"_id": "b2"}), "lacks"),
        (lambda trips: trips.update_one({"_id": "b2"}, {"$set": {"paid": True}}), "differs in"),
        (lambda trips: trips.insert_one({"_id": "b9", "at": {"station": "b"}}), "still has"),
    ],
    ids=["lacking", "different", "surplus"],
)
def test_a_shadow_that_differs_from_its_primary_is_named_by_document(wiring, data, change, said):
    change(data["beta"]["trips"])
    with pytest.raises(VerificationFailed, match=f"shadow of 'b' on beta {said}"):
        verify_hour(wiring, HOUR)


def test_a_difference_in_field_order_or_type_is_a_difference(wiring, data):
    data["beta"]["stations"].replace_one({"_id": "b"}, {"_id": "b", "bikes": 3, "station": "b"})
    data["beta"]["trips"].update_one({"_id": "b0"}, {"$set": {"n": 1}})
    data["alpha"]["trips"].update_one({"_id": "b0"}, {"$set": {"n": 1.0}})
    with pytest.raises(VerificationFailed, match="2 different in shadows"):
        verify_hour(wiring, HOUR)


@pytest.mark.parametrize("state", ["copying", "fenced", "switched", "cleaning"])
def test_both_partitions_of_an_open_move_may_have_the_key(wiring, data, control, unique_name, state):
    wiring.move_journal.plan(Move("m1", ("a",), "alpha", "gamma", 0, "a", Reason("x", "x")), HOUR)
    control[unique_name]["moves"].update_one({"_id": "m1"}, {"$set": {"state": state}})
    data["gamma"]["trips"].insert_many([{"_id": f"a{n}", "at": {"station": "a"}} for n in range(4)])
    summary = verify_hour(wiring, HOUR)
    assert (summary.in_transit, summary.documents) == (4, 20)


def test_documents_left_by_an_ended_move_are_a_fault(wiring, data, control, unique_name):
    wiring.move_journal.plan(Move("m1", ("a",), "gamma", "alpha", 0, "a", Reason("x", "x")), HOUR)
    control[unique_name]["moves"].update_one({"_id": "m1"}, {"$set": {"state": "done"}})
    data["gamma"]["trips"].insert_one({"_id": "a1", "at": {"station": "a"}})
    with pytest.raises(VerificationFailed, match="1 doubled"):
        verify_hour(wiring, HOUR)


@pytest.mark.parametrize("state", [ShadowState.COPYING, ShadowState.READY, ShadowState.RETIRING])
def test_a_shadow_that_is_not_live_may_have_the_key(wiring, data, state):
    wiring.shadows.create(Shadow("c|gamma", "c", "beta", "gamma", state, 1, 1, "hot_key", HOUR))
    data["gamma"]["stations"].insert_one({"_id": "c", "station": "c"})
    assert verify_hour(wiring, HOUR).in_transit == 1


def test_a_key_that_switches_during_the_read_is_not_a_fault(wiring, data):
    tables = [wiring.routing.current()]
    moved = RoutingTable(2, {**tables[0].placements, "a": Placement("a", "gamma", (), 2)}, tables[0].slots, HOUR)
    for name in ("stations", "trips"):
        documents = list(data["alpha"][name].find({"station" if name == "stations" else "at.station": "a"}))
        data["gamma"][name].insert_many(documents)
        data["alpha"][name].delete_many({"_id": {"$in": [document["_id"] for document in documents]}})
    answers = iter([*tables])
    found = wiring.verifier.verify(
        wiring.registry.partitions(),
        wiring.settings.sharded_collections,
        lambda: ExpectedPlacement(next(answers, moved)),
    )
    assert found.sound


def test_a_shadow_that_follows_while_apps_write_is_not_a_fault(wiring, data):
    stop = threading.Event()

    def write_and_follow():
        for n in itertools.count():
            if stop.is_set():
                return
            name = f"b{n % 4}"
            data["alpha"]["trips"].update_one({"_id": name}, {"$set": {"n": n}})
            stop.wait(0.02)
            data["beta"]["trips"].update_one({"_id": name}, {"$set": {"n": n}})

    for database in (data["alpha"], data["beta"]):
        database["trips"].update_many({"at.station": "b"}, {"$set": {"n": -1}})
    wiring.verifier = MongoVerifier(wiring.mongo, looks=50, pause=0.02)
    writer = threading.Thread(target=write_and_follow)
    writer.start()
    try:
        summaries = [verify_hour(wiring, HOUR) for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    assert {summary.shadow_differences for summary in summaries} == {0}


def test_documents_without_a_key_are_counted_separately_and_unusual_keys_are_accepted(wiring, data):
    data["gamma"]["stations"].insert_many([{"_id": "nobody"}, {"_id": "none", "station": None}])
    data["gamma"]["stations"].insert_many([{"station": key} for key in ("", "a\0b", "ключ 🚲", "x" * 10_000, "a.b$c")])
    summary = verify_hour(wiring, HOUR)
    assert (summary.without_key, summary.documents) == (2, 25)


def test_empty_collections_and_partitions_are_no_fault(wiring, data):
    for database in data.values():
        database.client.drop_database(database.name)
    summary = verify_hour(wiring, HOUR)
    assert (summary.documents, summary.keys) == (0, 0)


def test_an_unreachable_partition_is_named(wiring, monkeypatch):
    monkeypatch.setattr("foreshard.stores.mongo_connections.SERVER_SELECTION_MS", 300)
    wiring.registry.register([Partition("gamma", "here", 1.0, "mongodb://127.0.0.1:9/?directConnection=true")], [])
    with pytest.raises(Unreachable, match="partition gamma"):
        verify_hour(wiring, HOUR)


def test_duplicate_ids_are_found_beyond_the_limit_of_memory(monkeypatch):
    monkeypatch.setattr("foreshard.stores.partition._seen_ids.BUFFERED", 10)
    with SeenIds() as seen:
        for n in [*range(1000), 5, 700]:
            seen.add(b"%d" % n)
        assert seen.repeated() == {SeenIds.hash(b"5"), SeenIds.hash(b"700")}
        assert seen.repeated() == {SeenIds.hash(b"5"), SeenIds.hash(b"700")}


@pytest.mark.parametrize("state", ["copying", "switched", "cleaning"])
def test_both_partitions_of_an_open_move_of_a_slot_may_have_its_unlisted_keys(wiring, data, control, unique_name, state):
    slot = wiring.routing.current().slots.of("z").key
    wiring.move_journal.plan(Move("m1", (slot,), "gamma", "alpha", 0, "a", Reason("x", "x")), HOUR)
    control[unique_name]["moves"].update_one({"_id": "m1"}, {"$set": {"state": state}})
    data["alpha"]["trips"].insert_many([{"_id": f"z{n}", "at": {"station": "z"}} for n in range(4)])
    assert verify_hour(wiring, HOUR).in_transit == 4


@pytest.mark.parametrize("indexed", [True, False])
def test_of_many_documents_only_the_slots_of_the_hour_are_read(wiring, data, monkeypatch, indexed):
    slots = wiring.routing.current().slots
    if indexed:
        for database in data.values():
            database["stations"].create_index([("station", "hashed")])
            database["trips"].create_index([("at.station", "hashed")])
    data["alpha"]["trips"].insert_one({"_id": "stray", "at": {"station": "z"}})
    data["alpha"]["trips"].insert_one({"_id": "no key"})
    turn = frozenset({slots.space.slot_of("a"), slots.space.slot_of("b"), 4095})
    monkeypatch.setattr(publish, "slots_to_verify", lambda *_: turn)
    summary = verify_hour(wiring, HOUR)
    assert (summary.documents, summary.keys, summary.shadow_documents, summary.slots, summary.all_slots) == (10, 2, 5, 3, 4096)
    monkeypatch.setattr(publish, "slots_to_verify", lambda *_: frozenset({slots.space.slot_of("z")}))
    with pytest.raises(VerificationFailed, match="'stray' \\(key 'z'\\) on alpha"):
        verify_hour(wiring, HOUR)


@pytest.fixture
def command(wiring, monkeypatch, work_folder):
    """Runs ``foreshard verify`` and returns its exit code and output."""
    settings = wiring.settings
    monkeypatch.setenv("FORESHARD_CONTROL_URI", settings.control_uri.get_secret_value())
    monkeypatch.setenv("FORESHARD_CONTROL_DATABASE", settings.control_database)
    monkeypatch.setenv("FORESHARD_COLLECTIONS", f"[{','.join(c.model_dump_json() for c in settings.collections)}]")
    monkeypatch.setattr(MongoVerifier.__init__, "__defaults__", (2, 0.01))

    def run(*arguments):
        result = CliRunner().invoke(verify, list(arguments), catch_exceptions=False)
        return result.exit_code, result.output

    return run


def test_the_command_verifies_a_key_a_slot_or_everything(command):
    for arguments, documents in ((("a",), 5), (("--slot", "0-4095"), 20), (("--all",), 20)):
        code, output = command(*arguments)
        assert (code, f"documents: {documents}" in output) == (0, True), output


def test_the_command_exits_with_1_and_reports_every_difference(command, data, work_folder):
    data["gamma"]["trips"].insert_many([{"_id": n, "at": {"station": "a"}} for n in range(30)])
    data["beta"]["stations"].delete_one({"_id": "b"})
    report = work_folder / "differences.jsonl"
    code, output = command("--all", "--report", str(report))
    assert code == 1
    assert f"11 more differences; all are in {report}" in output
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(lines) == 31
    assert {(line["kind"], line["key"], line["partition"]) for line in lines} == {
        ("misplaced", "a", "gamma"),
        ("shadow", "b", "beta"),
    }
    assert {line["id"] for line in lines if line["kind"] == "misplaced"} == {str(n) for n in range(30)}


@pytest.mark.parametrize("change", [lambda c: c.drop(), lambda c: c.delete_many({})])
def test_an_absent_or_empty_collection_on_one_side_is_a_difference(command, data, change):
    change(data["beta"]["stations"])
    code, output = command("b")
    assert code == 1
    assert "shadow of 'b' on beta lacks" in output


def test_all_slots_are_verified_in_portions_that_resume(wiring, monkeypatch):
    monkeypatch.setattr(stage, "PORTION", 10)
    seen, stop_at = [], 2

    def progress(done, every):
        seen.append(done)
        if len(seen) > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.verify_all(wiring, lambda _difference: None, progress)
    stopped = wiring.verifications.load()
    assert 0 < stopped.next_slot < 4096
    seen, stop_at = [], 100
    figures = stage.verify_all(wiring, lambda _difference: None, progress, resume=True)
    assert seen[0] == stopped.next_slot
    assert seen[-1] == 4096
    assert (figures["documents"], figures["keys"], figures["slots"]) == (20, 4, 4096)
    assert wiring.verifications.load() is None


def test_only_all_resumes_and_something_must_be_named(command):
    assert command("a", "--resume")[0] == 2
    assert command()[0] == 2
