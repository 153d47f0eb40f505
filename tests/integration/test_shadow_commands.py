"""``foreshard applier`` and ``foreshard shadows`` on the real services."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bson
import pytest
from click.testing import CliRunner, Result
from pymongo import MongoClient
from tests.integration.shadow_stage import lay_out, make_wiring, settings_environment

from foreshard.cli.group import cli
from foreshard.consistency.versions import version_of_write
from foreshard.errors import UnknownPartition, UnknownShadow
from foreshard.ports.replication import ReplicationRecord
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stores.bson_codec import identity_of
from foreshard.wiring import Wiring

Command = Callable[..., Result]


@pytest.fixture
def wiring(
    mongods: tuple[Mongod, ...], kafka: Kafka, unique_name: str, control: MongoClient, partition_clients: dict[str, MongoClient]
) -> Iterator[Wiring]:
    with make_wiring(mongods, kafka, unique_name) as made:
        lay_out(made, mongods, {"hot": "alpha"})
        yield made


@pytest.fixture
def foreshard(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command as a person would. Its errors are raised."""
    for name, value in settings_environment(wiring.settings).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=True)


def test_a_shadow_is_added_shown_fed_and_removed(
    foreshard: Command, wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["last"] for name in ("alpha", "beta"))
    alpha.insert_one({"_id": 1, "key": "hot"})
    assert "published in table version 2" in foreshard("shadows", "add", "hot", "beta").output
    assert wiring.routing.current().placements["hot"].shadows == ("beta",)
    assert "hot|beta\tlive\talpha → beta" in foreshard("shadows", "list").output
    assert "requested by a person" in foreshard("shadows", "show", "hot", "beta").output
    alpha.insert_one({"_id": 2, "key": "hot"})
    assert "1 shadows fresh, 0 stale" in foreshard("applier", "--once").output
    assert beta.count_documents({"key": "hot"}) == 2
    assert "0 documents differ" in foreshard("shadows", "repair", "hot", "beta").output
    assert "gone" in foreshard("shadows", "remove", "hot", "beta").output
    assert beta.count_documents({"key": "hot"}) == 0
    assert foreshard("shadows", "list").output == "no shadows\n"


def test_a_conflict_is_listed_and_resolved_with_a_merged_document(
    foreshard: Command, wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    alpha, beta = (partition_clients[name][unique_name]["vector"] for name in ("alpha", "beta"))
    alpha.insert_one({"_id": 1, "key": "hot", "from": "alpha"})
    foreshard("shadows", "add", "hot", "beta")
    namespace = f"{unique_name}.vector"
    rival = bson.encode({"_id": 1, "key": "hot", "from": "elsewhere"})
    version = version_of_write("elsewhere", 1, 1_700_000_000, 1)
    record = ReplicationRecord(namespace, 1, identity_of(namespace, 1), "hot", "elsewhere", version, rival)
    wiring.replication_log().publish([record])
    foreshard("applier", "--once")
    listed = foreshard("shadows", "conflicts", "list").output
    assert '"from": "elsewhere"' in listed
    conflict_id = listed.split("\t")[0]
    both = foreshard("shadows", "conflicts", "resolve", conflict_id, "--with", "kept", "--document", "{}")
    assert "either" in both.output
    foreshard("shadows", "conflicts", "resolve", conflict_id, "--document", '{"key": "hot", "from": "both"}')
    foreshard("applier", "--once")
    assert alpha.find_one({"_id": 1}) == beta.find_one({"_id": 1}) == {"_id": 1, "key": "hot", "from": "both"}
    assert foreshard("shadows", "conflicts", "list").output == "no open conflicts\n"


def test_an_unknown_shadow_or_conflict_is_one_line(foreshard: Command) -> None:
    assert isinstance(foreshard("shadows", "show", "hot", "beta").exception, UnknownShadow)
    assert isinstance(foreshard("shadows", "add", "hot", "nowhere").exception, UnknownPartition)
    refused = foreshard("shadows", "add", "hot", "alpha").exception
    assert str(refused) == "shadow hot|alpha: alpha holds the primary copy; choose another partition"


def test_the_applier_exits_after_the_given_seconds(foreshard: Command) -> None:
    result = foreshard("applier", "--seconds", "1.5", "--every", "0.5")
    assert result.exit_code == 0
    assert "applier: stopped" in result.output
