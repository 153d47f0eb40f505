"""``foreshard partitions`` on a real control database."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from foreshard.cli.group import cli
from foreshard.model import PartitionState
from foreshard.stores.control.registry import MongoPartitionRegistry

GOOD = """
[[location]]
name = "San Francisco"
latitude = 37.789
longitude = -122

[[partition]]
id = "sf-1"
location = "San Francisco"
capacity = 250
uri = "mongodb://host:27017/?replicaSet=sf-1"
"""


@pytest.fixture
def registry(control, unique_name) -> MongoPartitionRegistry:
    return MongoPartitionRegistry(control[unique_name])


@pytest.fixture
def run(mongods, unique_name, work_folder):
    environment = {"FORESHARD_CONTROL_URI": mongods[0].uri, "FORESHARD_CONTROL_DATABASE": unique_name, "COLUMNS": "200"}

    def invoke(*arguments: str, file: str | None = None):
        if file is not None:
            path = work_folder / "partitions.toml"
            path.write_text(file)
            arguments = (*arguments, str(path))
        return CliRunner().invoke(cli, ["partitions", *arguments], env=environment)

    return invoke


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:pa55@host:27017/?replicaSet=sf-1",
        "mongodb://host/?tlsCertificateKeyFilePassword=pa55",
        "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:pa55",
    ],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(run, registry, uri):
    refused = run("apply", file=GOOD.replace("mongodb://host:27017/?replicaSet=sf-1", uri))
    assert "the uri of sf-1 has credentials" in str(refused.exception)
    assert "FORESHARD_MONGO_USERNAME" in str(refused.exception)
    assert "pa55" not in str(refused.exception) + refused.output
    assert registry.partitions() == ()


def test_an_address_keeps_options_that_are_no_secret(run, registry):
    uri = "mongodb://host/?authMechanism=GSSAPI&authMechanismProperties=SERVICE_NAME:x&tls=true"
    assert run("apply", file=GOOD.replace("mongodb://host:27017/?replicaSet=sf-1", uri)).exit_code == 0
    assert registry.partition("sf-1").uri == uri


def test_a_file_is_applied_listed_and_drained(run, registry):
    assert run("apply", file=GOOD).output == "1 partitions and 1 locations registered\n"
    assert registry.partition("sf-1").capacity == 250.0
    listed = run("list").output
    assert "mongodb://host:27017/?replicaSet=sf-1" in listed
    assert run("drain", "sf-1").output == "sf-1 is draining\n"
    run("apply", file=GOOD)
    assert registry.partition("sf-1").state is PartitionState.DRAINING
    run("apply", file=GOOD + 'state = "active"\n')
    assert registry.partition("sf-1").state is PartitionState.ACTIVE
    run("drain", "sf-1")
    run("drain", "--undo", "sf-1")
    assert registry.partition("sf-1").state is PartitionState.ACTIVE
    assert "unknown partition 'sf-9'; known: sf-1" in str(run("drain", "sf-9").exception)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (GOOD.replace("250", "0"), "partition 'sf-1' has capacity 0.0"),
        (GOOD.replace("250", "-3.5"), "capacity -3.5"),
        (GOOD.replace("250", '"much"'), "partition 1: capacity is 'much'; make it a number"),
        (GOOD.replace("250", "true"), "capacity is True"),
        (
            GOOD.replace('location = "San Francisco"', 'location = "Atlantis"'),
            "unknown location 'Atlantis'; known: San Francisco",
        ),
        (GOOD + GOOD[GOOD.index("[[partition]]") :], "'sf-1' is listed twice"),
        (GOOD.replace("capacity", "capcity"), "unknown field 'capcity'"),
        (GOOD.replace("uri =", "# uri ="), "uri is missing"),
        (GOOD.replace('"sf-1"\n', '""\n', 1), "id is ''"),
        (GOOD.replace("[[partition]]", "[partition]"), "write [[partition]] with two brackets"),
        (GOOD.replace("[[partition]]", "[[shard]]"), "unknown table 'shard'"),
        (GOOD + 'state = "gone"\n', "state 'gone' is unknown; use active or draining"),
        ("partition = [1]", "partition 1: is not a table"),
        ("[[partition", "can't be read as TOML"),
    ],
)
def test_an_invalid_file_is_one_line_and_registers_nothing(run, registry, file, problem):
    error = run("apply", file=file).exception
    assert problem in str(error)
    assert "\n" not in str(error)
    assert registry.partitions() == ()


def test_round_trips_are_measured_and_saved_and_a_dead_partition_is_left_out(run, registry, mongods):
    places = '[[location]]\nname = "{}"\nlatitude = 1\nlongitude = 1\n'
    partition = '[[partition]]\nid = "{}"\nlocation = "{}"\ncapacity = 1\nuri = "{}"\n'
    rows = [("alpha", "Here", mongods[1].uri), ("beta", "There", mongods[2].uri)]
    rows.append(("dead", "Nowhere", "mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=200"))
    run("apply", file="".join(places.format(at) for _, at, _ in rows) + "".join(partition.format(*row) for row in rows))
    output = run("measure", "--from", "Here").output
    assert "Here to There" in output
    found = {place.name: dict(place.round_trips) for place in registry.locations()}
    assert set(found["Here"]) == {"Here", "There"}
    assert all(0 < milliseconds < 1000 for milliseconds in found["Here"].values())
    assert "is not registered" in str(run("measure", "--from", "Atlantis").exception)
