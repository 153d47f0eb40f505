"""``foreshard keys check`` and the hashed indexes, on real partitions."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from click.testing import CliRunner

from foreshard.cli.group import cli
from foreshard.model import Location, Partition
from foreshard.settings import Settings
from foreshard.stages.keys import check_keys
from foreshard.wiring import Wiring

VALUES = {
    "string": ["a", "b", "é", ""],
    "int": [1, Int64(2)],
    "objectid": [ObjectId()],
    "uuid": [Binary(uuid4().bytes, 4)],
}
FLOATS = [1.0, Decimal128("2.5")]


@pytest.fixture
def environment(mongods, unique_name, work_folder):
    return {
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": unique_name,
        "FORESHARD_DATA_DIR": str(work_folder),
    }


@pytest.fixture
def run(environment, mongods, unique_name, control):
    """Runs a command with alpha and beta registered. The collection's key is at ``who.id``."""

    def invoke(*arguments: str, key_type: str = "string"):
        shop = {"database": unique_name, "collection": "orders", "key_field": "who.id", "key_type": key_type}
        here = {**environment, "FORESHARD_COLLECTIONS": json.dumps([shop])}
        return CliRunner().invoke(cli, list(arguments), env=here)

    with Wiring(Settings.load(control_uri=mongods[0].uri, control_database=unique_name)) as wiring:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:3]}
        wiring.registry.register([Partition(name, "here", 10.0, uri) for name, uri in uris.items()], [Location("here", 0, 0)])
    return invoke


@pytest.fixture
def orders(partition_clients, unique_name):
    return {name: partition_clients[name][unique_name]["orders"] for name in ("alpha", "beta")}


@pytest.mark.parametrize("key_type", list(VALUES))
def test_documents_whose_key_is_of_the_type_are_no_finding_and_all_others_are(run, orders, key_type) -> None:
    orders["alpha"].insert_many([{"who": {"id": value}} for value in VALUES[key_type]])
    good = run("keys", "check", key_type=key_type)
    assert (good.exit_code, good.output.count("\n")) == (0, 1)
    assert (
        f"checked 1 collections on 2 partitions, all documents: {len(VALUES[key_type])} documents; every key is" in good.output
    )
    others = [value for name, values in VALUES.items() if name != key_type for value in values] + FLOATS
    orders["beta"].insert_many([{"who": {"id": value}} for value in [*others, None, ["a", "b"], "\x1f5", Binary(b"x" * 16, 3)]])
    orders["beta"].insert_many([{"who": 5}, {}])
    bad = run("keys", "check", key_type=key_type)
    assert bad.exit_code == 1
    assert f"{orders['beta'].full_name} on beta: 2 documents have nothing in who.id; give each" in bad.output
    assert "1 document has null in who.id" in bad.output
    assert "1 document has an array in who.id; give each document one key" in bad.output
    assert "1 document has a double in who.id" in bad.output
    assert "1 document has a decimal in who.id" in bad.output
    counted = sum(int(line.split(": ")[1].split()[0]) for line in bad.output.splitlines()[:-1])
    assert counted == len(others) + 6


def test_a_sample_says_that_it_is_one(run, orders) -> None:
    orders["alpha"].insert_many([{"who": {"id": str(n)}} for n in range(500)])
    sampled = run("keys", "check", "--sample", "50")
    assert "a random sample of at most 50 documents each: 50 documents; every key is a string" in sampled.output


def test_table_init_makes_the_hashed_indexes_and_says_what_they_cost(run, orders) -> None:
    orders["alpha"].insert_many([{"who": {"id": str(n)}} for n in range(500)])
    published = run("table", "init")
    assert published.exit_code == 0
    assert f"{orders['alpha'].full_name} on alpha: hashed index on who.id made (500 documents, 0." in published.output
    assert "on beta" not in published.output.splitlines()[0]
    assert any(dict(index["key"]) == {"who.id": "hashed"} for index in orders["alpha"].list_indexes())


def test_the_index_can_be_left_out(run, orders) -> None:
    orders["alpha"].insert_one({"who": {"id": "a"}})
    assert "hashed index" not in run("table", "init", "--no-index").output
    assert [dict(index["key"]) for index in orders["alpha"].list_indexes()] == [{"_id": 1}]


def test_an_array_key_refuses_the_index_in_one_line_that_names_the_check(run, orders) -> None:
    orders["beta"].insert_one({"who": {"id": ["a", "b"]}})
    error = str(run("table", "init").exception)
    assert error.startswith(f"{orders['beta'].full_name} on beta has an array in who.id, so it can't have a hashed index")
    assert "`foreshard keys check` counts them" in error
    assert "\n" not in error


def test_a_collection_that_does_not_exist_yet_is_no_finding(environment, run, mongods, unique_name) -> None:
    collections = [{"database": unique_name, "collection": "orders", "key_field": "id"}]
    with Wiring(Settings.load(control_uri=mongods[0].uri, control_database=unique_name, collections=collections)) as wiring:
        assert check_keys(wiring).findings == ()
