"""The saved table: complete or refused, with the previous image as the fallback."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.slots import slot_map

from foreshard.errors import CorruptRoutingFile
from foreshard.model import Location, Partition, PartitionState, Placement, PlacementChange, RoutingTable
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.image import image_parts
from foreshard.routing.packed import pack
from foreshard.routing.table import apply_changes
from foreshard.stores.files.routing_compaction import compact
from foreshard.stores.files.routing_description import description_of
from foreshard.stores.files.routing_file import RoutingFile, random_seeds, read_routing, stamp

RULE = slot_map(("a", "b"), (1.0, 2.5))


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


def test_the_previous_image_is_kept(file):
    file.save(saved(1))
    file.save(saved(2))
    file.save(saved(3))
    assert read_routing(file.path).table.version == 3
    assert read_routing(file.previous).table.version == 2


def test_a_confirmation_sets_the_time_of_the_file(file):
    file.confirm(1.0)
    file.save(saved())
    file.confirm(1_800_000_000.0)
    assert file.load().confirmed_at == 1_800_000_000.0


@pytest.mark.parametrize("damage", ["cut", "cut in the last line", "flipped", "empty", "no checksum", "appended", "folder"])
def test_a_damaged_file_is_logged_and_the_previous_one_is_used(file, damage, caplog):
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
        file.path.write_bytes(content[:96] + bytes(8) + content[104:])
    elif damage == "appended":
        file.path.write_bytes(content + b"[]\n")
    else:
        file.path.unlink()
        file.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert file.load().table.version == 1
    assert len(file.refused) == 1
    assert "it is refused, and the previous one is used" in caplog.text
    assert not file.path.exists()
    file.save(saved(3))
    assert file.load().table.version == 3


def test_if_both_images_are_damaged_there_is_no_table(file):
    file.save(saved(1))
    file.save(saved(2))
    file.path.write_bytes(b"x")
    file.previous.write_bytes(b"y")
    assert file.load() is None
    assert len(file.refused) == 2


def test_a_file_of_another_version_is_refused_even_with_a_correct_checksum(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"".join(image_parts(pack((), [1]), {"version": 1})))
    with pytest.raises(CorruptRoutingFile, match="another version"):
        read_routing(path)


SMALL = b"".join(image_parts(pack(saved(keys=3).table.placements.values(), random_seeds()), description_of(saved(keys=3))))


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 7))
@settings(max_examples=100)
def test_every_flipped_bit_is_noticed(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("bits") / "table"
    assert len(SMALL) > 300
    path.write_bytes(SMALL[:place] + bytes([SMALL[place] ^ (1 << bit)]) + SMALL[place + 1 :])
    with pytest.raises(CorruptRoutingFile):
        read_routing(path)


def moved(before: SavedRouting, *changes: PlacementChange) -> SavedRouting:
    return replace(before, table=apply_changes(before.table, changes, before.table.version + 1, before.table.published_at))


def test_changes_are_written_to_the_overlay_and_read_back(file):
    file.save(saved(1))
    image = file.path.read_bytes()
    changed = moved(file.load(), PlacementChange("k1", "a", ("b",), 2, 3), PlacementChange("new", "b", (), 0, 1))
    file.save_changes(changed)
    assert file.path.read_bytes() == image
    assert file.load() == changed
    assert file.load().table.version == 2


def test_changes_to_a_table_that_was_not_read_from_the_image_are_packed_into_a_new_one(file):
    file.save(saved(1))
    file.save_changes(saved(2))
    assert file.load() == saved(2)
    assert read_routing(file.previous).table.version == 1


def test_an_overlay_stays_with_its_image_and_is_removed_with_it(file):
    file.save(saved(1))
    file.save_changes(moved(file.load(), PlacementChange("k1", "a", (), 2, 3)))
    file.save(saved(5))
    file.path.write_bytes(b"damaged")
    assert file.load().table.placements["k1"].epoch == 3
    file.save(saved(6))
    file.save(saved(7))
    assert not list(file.path.parent.glob("overlay-*"))


def test_a_damaged_overlay_is_logged_and_the_image_is_used(file, caplog):
    file.save(saved(1))
    file.save_changes(moved(file.load(), PlacementChange("k1", "a", (), 2, 3)))
    (overlay,) = file.path.parent.glob("overlay-*")
    overlay.write_bytes(overlay.read_bytes().replace(b'"k1"', b'"k2"'))
    assert file.load() == saved(1)
    assert "checksum is wrong" in caplog.text
    assert "as old as its image, version 1" in caplog.text


def test_a_process_that_has_mapped_an_image_keeps_it_while_others_replace_it(file):
    file.save(saved(1))
    mapped = file.load()
    for version in (2, 3, 4):
        file.save(saved(version, keys=10))
    assert mapped == saved(1)


def test_every_write_changes_the_stamp(file):
    folder = file.path.parent
    seen = [stamp(folder)]
    file.save(saved(1))
    seen.append(stamp(folder))
    for version in range(3):
        file.save_changes(moved(file.load(), PlacementChange(f"k{version}", "a", (), version + 1, version + 9)))
        seen.append(stamp(folder))
    file.confirm(5.0)
    assert stamp(folder) == seen[-1]
    assert len(set(seen)) == 5


def test_compaction_packs_the_changes_into_a_new_image(file):
    file.save(saved(1))
    changed = moved(file.load(), PlacementChange("k1", "a", ("b",), 2, 3), PlacementChange("new", "b", (), 0, 1))
    file.save_changes(changed)
    assert compact(file.path.parent)
    packed = file.load()
    assert packed == changed
    assert not packed.table.placements.changed
    assert read_routing(file.previous) == changed
