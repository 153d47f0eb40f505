"""The saved table: whole or refused, the one before as the fallback."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.adapters.routing_file import RoutingFile, SavedRouting, read_routing, routing_lines, with_checksum
from foreshard.errors import CorruptRoutingFile
from foreshard.model import DefaultRule, Location, Partition, PartitionState, Placement, RoutingTable

RULE = DefaultRule(("a", "b"), (1.0, 2.5))


def saved(version: int = 1, keys: int = 5000) -> SavedRouting:
    placements = {f"k{n}": Placement(f"k{n}", "ab"[n % 2], ("b",) if n % 2 == 0 else (), n + 1) for n in range(keys)}
    placements['日本/\n"odd"\ud800'] = Placement('日本/\n"odd"\ud800', "elsewhere", ("a", "b"), 9)
    return SavedRouting(
        "identity",
        RoutingTable(version, placements, RULE, datetime(2025, 1, 1, 12, 30, 1, 250_000, tzinfo=UTC)),
        (
            Partition("a", "here", 1.5, "mongodb://a/", state=PartitionState.DRAINING),
            Partition("b", "there", 2.0, "mongodb://b/"),
        ),
        (Location("here", 1.25, -2.5),),
        1_700_000_000.0,
    )


@pytest.fixture
def file(tmp_path) -> RoutingFile:
    return RoutingFile(tmp_path / "not there yet" / "routing")


def test_what_is_saved_is_read_back(file):
    assert file.load() is None
    file.save(saved())
    assert file.load() == saved()


def test_credentials_are_not_saved(file):
    secret = replace(saved(), partitions=(Partition("a", "here", 1.0, "mongodb://me:pa55word@host:1/?tls=true"),))
    file.save(secret)
    assert b"pa55word" not in file.path.read_bytes()
    assert file.load().partitions[0].uri == "mongodb://host:1/?tls=true"


def test_the_one_before_is_kept(file):
    file.save(saved(1))
    file.save(saved(2))
    file.save(saved(3))
    assert read_routing(file.path).table.version == 3
    assert read_routing(file.previous).table.version == 2


def test_a_confirmation_is_the_time_of_the_file(file):
    file.confirm(1.0)
    file.save(saved())
    file.confirm(1_800_000_000.0)
    assert file.load().confirmed_at == 1_800_000_000.0


@pytest.mark.parametrize("damage", ["cut", "cut in the last line", "flipped", "empty", "no checksum", "appended", "folder"])
def test_a_damaged_file_is_refused_loudly_and_the_one_before_is_used(file, damage, caplog):
    file.save(saved(1))
    file.save(saved(2))
    content = file.path.read_bytes()
    if damage == "cut":
        file.path.write_bytes(content[: len(content) // 2])
    elif damage == "cut in the last line":
        file.path.write_bytes(content[:-5])
    elif damage == "flipped":
        middle = len(content) // 2
        file.path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        file.path.write_bytes(b"")
    elif damage == "no checksum":
        file.path.write_bytes(content[: content.rindex(b"\n", 0, -1) + 1])
    elif damage == "appended":
        file.path.write_bytes(content + b"[]\n")
    else:
        file.path.unlink()
        file.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert file.load().table.version == 1
    assert len(file.refused) == 1
    assert "refused, and the one before is used" in caplog.text
    assert not file.path.exists()
    file.save(saved(3))
    assert file.load().table.version == 3


def test_when_both_are_damaged_nothing_is_answered_from(file):
    file.save(saved(1))
    file.save(saved(2))
    file.path.write_bytes(b"x")
    file.previous.write_bytes(b"y")
    assert file.load() is None
    assert len(file.refused) == 2


def test_a_file_of_another_version_is_refused_even_with_a_right_checksum(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"".join(with_checksum([b'{"format":"foreshard-routing-2"}\n'])))
    with pytest.raises(CorruptRoutingFile, match="another version"):
        read_routing(path)


SMALL = b"".join(with_checksum(routing_lines(saved(keys=3))))


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 7))
@settings(max_examples=100)
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("bits") / "table"
    path.write_bytes(SMALL[:place] + bytes([SMALL[place] ^ (1 << bit)]) + SMALL[place + 1 :])
    with pytest.raises(CorruptRoutingFile):
        read_routing(path)
