"""Logs of other programs: Apache and nginx, MongoDB's profiler and slow-query log, CSV and JSON with foreign names."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo import MongoClient
from tests.access_log_batches import frame_of

from foreshard.errors import ConfigurationError, CorruptLog
from foreshard.observe.batches import clean_batch
from foreshard.observe.clean import EARLIEST
from foreshard.observe.mapping import mapped
from foreshard.settings import Settings, SourceMapping
from foreshard.stack._process import free_port
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stack.mongod import Mongod
from foreshard.stages.observing.check_log import LogCheck, check_log
from foreshard.stores.files.access_log import FileAccessLog, read_log
from foreshard.stores.files.json_lines import fields_of
from foreshard.stores.files.log_tables import SourceForm
from foreshard.stores.files.mapping_file import read_mapping
from foreshard.stores.kafka.access_log import KafkaAccessLog
from foreshard.wiring import Wiring

# The lines of the manual of Apache's httpd (common and combined), and of one of nginx with a time that a site appends.
APACHE = [
    '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326',
    '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /users/17 HTTP/1.0" 200 2326 "http://www.example.com/start.html"'
    ' "Mozilla/4.08 [en] (Win98; I ;Nav)"',
    '10.1.2.3 - - [10/Oct/2000:20:56:01 +0000] "POST /users/18/cart?item=7 HTTP/1.1" 201 - "-" "curl/8.5 \\"x\\"" 0.045',
    '93.184.216.34 - - [10/Oct/2000:20:57:09 +0000] "DELETE /users/18/cart HTTP/2.0" 204 0 "-" "-"',
    "\\x16\\x03\\x01 no request at all",
]
MAPPING = """
format = "combined"

[columns]
timestamp = "time"
partitionable_key = "path"
user_id = "user"
request_type = "method"
location = "address"

[keys]
"/users/{id}*" = "user {id}"

[request_types]
GET = "read"
POST = "write"
DELETE = "delete"

[locations]
"10.0.0.0/8" = "San Jose"
"10.1.0.0/16" = "Berlin"
"127.0.0.1" = "here"
"""
TYPES = ("read", "write", "update", "delete")


def mapping_of(text: str) -> SourceMapping:
    return SourceMapping.model_validate(tomllib.loads(text))


def accepted(path: Path, mapping: SourceMapping) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Return the accepted records, the reasons of the quarantine, and the notes."""
    records: list[dict[str, Any]] = []
    reasons: list[str] = []
    notes: list[str] = []
    for batch in read_log(path, SourceForm(None, mapping), notes.append):
        cleaned = clean_batch(batch, EARLIEST, datetime.now(UTC) + timedelta(hours=1), TYPES)
        records += cleaned.accepted.to_pylist()
        reasons += cleaned.quarantined["reason"].tolist()
    return records, reasons, notes


@pytest.fixture
def wiring(tmp_path: Path) -> Iterator[Wiring]:
    collections = [{"database": "shop", "collection": "trips", "key_field": "station"}]
    with Wiring(Settings.load(data_dir=tmp_path / "data", user_key="k" * 32, collections=collections)) as made:
        yield made


def test_apaches_lines_are_read_with_keys_from_paths_and_locations_from_networks(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("\n".join(APACHE))
    records, reasons, notes = accepted(tmp_path / "access.log", mapping_of(MAPPING))
    assert [(one["partitionable_key"], one["request_type"], one["location"], one["user_id"]) for one in records] == [
        ("user 17", "read", "here", "frank"),
        ("user 18", "write", "Berlin", None),
        ("user 18", "delete", None, None),
    ]
    assert records[0]["timestamp"] == datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC)
    assert reasons == ["malformed"]
    assert notes == [f"{tmp_path}/access.log: 1 records are left out, because the mapping's `only` or `keys` do not name them"]


def test_a_folder_of_rotated_logs_is_one_source_by_hour(tmp_path: Path) -> None:
    for number, line in enumerate(APACHE[1:4]):
        (tmp_path / f"access.log.{number}").write_text(line + "\n")
    source = FileAccessLog([tmp_path], SourceForm(None, mapping_of(MAPPING)))
    found = [
        key
        for batch in source.read_hour(datetime(2000, 10, 10, 20, tzinfo=UTC))
        for key in frame_of(batch)["partitionable_key"]
    ]
    assert found == ["user 17", "user 18", "user 18"]


def test_a_file_of_which_no_line_matches_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text("no log\nat all\n")
    with pytest.raises(CorruptLog, match=r"none of its first 2 lines matches the pattern"):
        accepted(tmp_path / "access.log", mapping_of(MAPPING))


def test_a_pattern_of_ones_own_names_the_fields(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("26.10.2025 02:30:00 | K-7 | lesen | 3,5\n26.10.2025 04:00:00 | K-8 | lesen | 1\n")
    mapping = mapping_of(
        "format = \"pattern\"\npattern = '(?P<at>.+) \\| (?P<key>.+) \\| (?P<what>.+) \\| .+'\n"
        'time_format = "%d.%m.%Y %H:%M:%S"\n'
        '[columns]\ntimestamp = "at"\npartitionable_key = "key"\nrequest_type = "what"\n[request_types]\n"*" = "read"\n'
    )
    records, _, notes = accepted(tmp_path / "a.log", mapping)
    assert [(one["partitionable_key"], one["timestamp"].hour) for one in records] == [("K-7", 2), ("K-8", 4)]
    assert "without a zone are read as UTC" in notes[0]


def test_json_fields_are_named_by_their_paths_and_the_first_that_is_given_counts(tmp_path: Path) -> None:
    lines = [
        {"at": {"ms": 1772353800000}, "doc": {"id": 2**53 + 1}, "do": "get", "took": 1.5},
        {"at": {"ms": 1772353801000}, "docs": [{"id": 2**53 + 2}], "do": "get"},
        {"at": {"ms": 1772353802000}, "do": "noise"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{torn")
    mapping = mapping_of(
        '[columns]\ntimestamp = "at.ms"\npartitionable_key = ["doc.id", "docs.0.id"]\nrequest_type = "do"\ncost = "took"\n'
        '[request_types]\nget = "read"\n[only]\ndo = "get"\n'
    )
    records, reasons, notes = accepted(tmp_path / "a.jsonl", mapping)
    assert [(one["partitionable_key"], one["cost"]) for one in records] == [(str(2**53 + 1), 1.5), (str(2**53 + 2), None)]
    assert reasons == ["malformed"]
    assert "1 records are left out" in notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[columns", "can't be read"),
        ('[columns]\ntimestamp = "t"\npartitionable_key = "k"', "columns.request_type is missing"),
        (MAPPING.replace("user_id", "customer"), "columns.customer is no column"),
        (MAPPING.replace('"path"', '"route"'), "the pattern has no group 'route'"),
        (MAPPING.replace("user {id}", "user {name}"), "has no {name}"),
        (MAPPING.replace("/users/{id}*", "/users/{id}/{id}"), "a part of one name twice"),
        (MAPPING.replace("combined", "pattern"), "need each other"),
        (MAPPING + "\n[more]\nx = 1", "more: Extra inputs are not permitted"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_mapping(tmp_path / "m.toml")
    assert said in str(raised.value)
    assert str(tmp_path / "m.toml") in str(raised.value)


def test_an_address_that_no_network_names_is_no_location() -> None:
    mapping = mapping_of(MAPPING)
    raw = fields_of(
        [b'{"address": "[2001:db8::1]:443"}', b'{"address": "10.1.9.9:5"}', b'{"address": "web-3"}'], "abc", ["address"]
    )
    assert mapped(raw.assign(path="/users/1"), mapping).records["location"].tolist() == [None, "Berlin", "web-3"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The log of a real mongod that logs every operation, and its exported ``system.profile``."""
    folder = tmp_path_factory.mktemp("profiled")
    mongod = Mongod("profiled", free_port(), folder)
    mongod.start()
    try:
        with MongoClient(mongod.uri) as client:
            shop = client["shop"]
            shop.command("profile", 2, slowms=-1)
            trips = shop["trips"]
            trips.insert_many([{"station": "A"}, {"station": "B"}])
            trips.find_one({"station": "A"})
            list(trips.find({"station": {"$eq": "B"}}))
            trips.update_one({"station": "A"}, {"$set": {"n": 1}})
            trips.find_one_and_update({"station": "A"}, {"$set": {"n": 2}})
            list(trips.aggregate([{"$match": {"station": "B"}}, {"$count": "n"}]))
            trips.delete_one({"station": "B"})
            list(trips.find({"station": {"$in": ["A", "B"]}}))
            exported = folder / "profile.jsonl"
            found = shop["system.profile"].find({"ns": "shop.trips"})
            exported.write_text("\n".join(map(json_util.dumps, found)) + "\n")
    finally:
        mongod.stop()
    return folder / "profiled.log", exported


class TestMongoDB:
    @pytest.mark.parametrize("which", [0, 1])
    def test_operations_of_a_real_mongod_are_read_and_check_proposes_the_mapping(
        self, logs: tuple[Path, Path], which: int, wiring: Wiring
    ) -> None:
        found = check_log(wiring, logs[which])
        assert found.proposal is not None
        mapping = mapping_of(found.proposal + '\n[only]\nns = "shop.trips"\n')
        records, reasons, notes = accepted(logs[which], mapping)
        assert [(one["partitionable_key"], one["request_type"]) for one in records] == [
            ("A", "read"),
            ("B", "read"),
            ("A", "update"),
            ("A", "write"),
            ("B", "read"),
            ("B", "delete"),
        ]
        assert reasons == ["unreadable_key"]
        assert "records are left out" in notes[0]
        assert all(one["cost"] is not None and one["location"] is None for one in records)


class TestCheck:
    def check(self, wiring: Wiring, path: Path) -> LogCheck:
        found = check_log(wiring, path)
        if found.proposal:
            again = check_log(wiring, path, mapping_of(found.proposal))
            assert (again.accepted, again.reasons, again.proposal) == (found.accepted, found.reasons, None)
        return found

    def test_an_apache_log(self, tmp_path: Path, wiring: Wiring) -> None:
        (tmp_path / "access.log").write_text("\n".join(APACHE))
        found = self.check(wiring, tmp_path / "access.log")
        assert found.proposal is not None
        assert '"/users/{id}*" = "users {id}"' in found.proposal
        assert (found.records, found.accepted, found.reasons) == (4, 3, {"malformed": 1})
        assert {one.column: one.examples for one in found.columns}["user_id"] == ("(hidden)",)

    def test_a_csv_with_foreign_names_and_unknown_types(self, tmp_path: Path, wiring: Wiring) -> None:
        rows = [f"2026-03-01T08:00:{n:02}Z;t{n % 3};{'GET' if n % 5 else 'explode'};u{n};eu" for n in range(20)]
        (tmp_path / "a.csv").write_text("\n".join(["Event Time;Tenant-ID;Method;Customer;Region", *rows]))
        found = self.check(wiring, tmp_path / "a.csv")
        assert (found.accepted, found.reasons, found.unknown_types) == (16, {"unknown_request_type": 4}, {"explode": 4})
        columns = {one.column: (one.field, one.distinct) for one in found.columns}
        assert columns["partitionable_key"] == ("Tenant-ID", 3)
        assert columns["location"] == ("Region", 1)

    def test_a_log_with_the_standard_columns_needs_no_mapping(self, tmp_path: Path, wiring: Wiring) -> None:
        (tmp_path / "a.csv").write_text("timestamp,partitionable_key,request_type\n2026-03-01 08:00,k,read\n,k,read\n")
        found = self.check(wiring, tmp_path / "a.csv")
        assert (found.proposal, found.accepted, found.reasons) == (None, 1, {"missing_time": 1})
        assert "without a zone" in found.notes[0]

    def test_fields_that_cannot_be_guessed_are_named(self, tmp_path: Path, wiring: Wiring) -> None:
        (tmp_path / "a.csv").write_text("a,b,c\n1,2,3\n")
        with pytest.raises(CorruptLog, match=r"its fields can't be guessed \(a, b, c\); name them in a mapping"):
            check_log(wiring, tmp_path / "a.csv")

    def test_a_topic_with_foreign_names(self, kafka: Kafka, unique_name: str, tmp_path: Path) -> None:
        from tests.integration.test_observe_kafka import send

        create_topic(kafka.bootstrap, unique_name, 1)
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        moments = [hour + timedelta(minutes=n) for n in range(9)]
        send(
            kafka,
            unique_name,
            ((0, at, {"when": at.isoformat(), "tenant": f"t{n}", "do": "get" if n else "x"}) for n, at in enumerate(moments)),
        )
        (tmp_path / "m.toml").write_text(
            '[columns]\ntimestamp = "when"\npartitionable_key = "tenant"\nrequest_type = "do"\n'
            '[request_types]\nget = "read"\n[only]\ndo = "get"\n'
        )
        form = SourceForm(None, read_mapping(tmp_path / "m.toml"))
        log = KafkaAccessLog(kafka.bootstrap, unique_name, timedelta(minutes=5), form)
        assert [key for batch in log.read_hour(hour) for key in frame_of(batch)["partitionable_key"]] == [
            f"t{n}" for n in range(1, 9)
        ]
        settings = Settings.load(
            kafka_bootstrap=kafka.bootstrap, access_topic=unique_name, observe={"access_log_mapping": tmp_path / "m.toml"}
        )
        with Wiring(settings) as wiring:
            assert (checked := check_log(wiring, None)).accepted == checked.records == 8
