from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.errors import ConfigurationError, UnknownPartition
from foreshard.model import Partition
from foreshard.model.key_space import KeySpace, KeyType
from foreshard.routing.table import locate
from foreshard.stages.first_table import first_table, read_placements

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TWO = {name: Partition(name, "here", capacity) for name, capacity in (("a", 1.0), ("b", 3.0))}


def test_existing_keys_are_on_their_partitions_and_listed_only_if_their_slots_are_elsewhere() -> None:
    table = first_table(TWO, {f"k{n}": "b" for n in range(50)}, (), NOW, KeySpace())
    assert {locate(table, f"k{n}").primary for n in range(50)} == {"b"}
    assert {locate(table, f"k{n}").epoch for n in range(50)} == {1}
    assert set(table.placements) == {f"k{n}" for n in range(50) if table.slots.of(f"k{n}").primary == "a"}


def test_unlisted_keys_are_all_on_the_one_given_partition() -> None:
    table = first_table(TWO, {}, ("a",), NOW, KeySpace())
    assert {locate(table, f"k{n}").primary for n in range(50)} == {"a"}


def test_unlisted_keys_are_spread_by_capacity_by_default() -> None:
    table = first_table(TWO, {}, (), NOW, KeySpace())
    owners = [locate(table, f"k{n}").primary for n in range(2_000)]
    assert owners.count("b") == pytest.approx(1_500, abs=120)


def test_an_unregistered_partition_is_refused() -> None:
    with pytest.raises(UnknownPartition, match="'c'"):
        first_table(TWO, {"k": "c"}, (), NOW, KeySpace())


def test_a_deployment_without_partitions_is_told_what_to_do_first() -> None:
    with pytest.raises(ConfigurationError, match="partitions apply"):
        first_table({}, {}, (), NOW, KeySpace())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,partition\nk,\n", "line 2 lacks key or partition"),
        ("station,where\nk,a\n", "line 2 lacks"),
        ("key,partition\nk,a\nk,b\n", "'k' is on two partitions"),
    ],
)
def test_an_invalid_placement_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "placements.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_placements(path)


def test_a_placement_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "placements.csv"
    path.write_text('key,partition\n"a, b",a\nc,b\n')
    assert read_placements(path) == {"a, b": "a", "c": "b"}


def test_keys_of_a_placement_file_are_parsed_to_the_key_type(tmp_path: Path) -> None:
    path = tmp_path / "placements.csv"
    path.write_text("key,partition\n64B00000000000000000000A,a\n")
    assert read_placements(path, KeyType.OBJECT_ID) == {"64b00000000000000000000a": "a"}
    with pytest.raises(ConfigurationError, match="line 2: key '64B00000000000000000000A' is not a 64-bit integer"):
        read_placements(path, KeyType.INT)
