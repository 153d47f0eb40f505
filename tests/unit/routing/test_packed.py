"""The packed table equals what was packed, for any keys in any order; damage is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.errors import TableNotPackable
from foreshard.model import Placement
from foreshard.routing import packed
from foreshard.routing.image import ImageDamaged, image_name, image_parts, open_image
from foreshard.routing.packed import CELL_BYTES, EMPTY, PackedPlacements, pack

keys = st.text(max_size=12) | st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)
placed = st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from("xyz"), unique=True, max_size=3), st.integers(1, 2**28 - 1))


def table(rows) -> dict[str, Placement]:
    return {key: Placement(key, primary, tuple(shadows), epoch) for key, (primary, shadows, epoch) in rows.items()}


@given(st.dictionaries(keys, placed, max_size=60), st.lists(keys, max_size=20), st.integers(0, 2**64 - 1))
@settings(max_examples=100)
def test_a_packed_table_equals_the_dictionary(rows, others, seed):
    plain = table(rows)
    found = PackedPlacements(pack(plain.values(), [seed]))
    assert dict(found) == plain
    assert len(found) == len(plain)
    for key in [*plain, *others]:
        assert found.get(key) == plain.get(key)
        assert (key in found) == (key in plain)


@given(st.dictionaries(keys, placed, max_size=30), st.lists(st.dictionaries(keys, placed, max_size=5), max_size=4))
@settings(max_examples=60)
def test_changes_override_the_base_and_can_be_packed_into_a_new_one(rows, publications):
    plain = table(rows)
    found = PackedPlacements(pack(plain.values(), [1]))
    for publication in publications:
        changed = table(publication)
        plain |= changed
        found = found.laid_over(changed)
        assert dict(found) == plain
        assert len(found) == len(plain)
    rebased = found.rebased(pack(found.values(), [2]))
    assert (dict(rebased), rebased.changed) == (plain, {})


def test_changes_missing_in_a_newer_base_are_kept_over_it():
    old = PackedPlacements(pack([Placement("a", "x")], [1]))
    after = old.laid_over({"a": Placement("a", "y", (), 2)})
    newest = after.laid_over({"b": Placement("b", "x")})
    rebased = newest.rebased(pack(after.values(), [2]))
    assert rebased.changed == {"b": Placement("b", "x")}
    assert dict(rebased) == dict(newest)


def test_packing_finds_equal_hashes_and_takes_another_seed(monkeypatch):
    honest = packed.xxh3_64_intdigest
    monkeypatch.setattr(packed, "xxh3_64_intdigest", lambda data, seed: 7 if seed == 1 else honest(data, seed))
    rows = [Placement("a", "x"), Placement("b", "y")]
    assert pack(rows, [1, 2]).seed == 2
    with pytest.raises(TableNotPackable, match="same hash under every seed"):
        pack(rows, [1, 1, 1])


@pytest.mark.parametrize("extreme", [0, EMPTY - 1])
def test_the_lowest_and_the_highest_hash_are_found(monkeypatch, extreme):
    monkeypatch.setattr(packed, "xxh3_64_intdigest", lambda data, seed: extreme if data == b"a" else 1 << 63)
    found = PackedPlacements(pack([Placement("a", "x"), Placement("b", "y")], [0]))
    assert (found["a"].primary, found["b"].primary) == ("x", "y")


def test_no_key_has_the_hash_that_marks_empty_slots(monkeypatch):
    honest = packed.xxh3_64_intdigest
    monkeypatch.setattr(packed, "xxh3_64_intdigest", lambda data, seed: EMPTY if seed == 1 else honest(data, seed))
    assert pack([Placement("a", "x")], [1, 2]).seed == 2
    monkeypatch.setattr(packed, "xxh3_64_intdigest", lambda data, seed: EMPTY if data == b"no" else honest(data, seed))
    assert PackedPlacements(pack([Placement("a", "x")], [2])).get("no") is None


def test_a_key_takes_twenty_bytes():
    found = pack([Placement(f"key {n}", "a") for n in range(10_000)], [1])
    assert len(found.cells) * 8 / 10_000 == pytest.approx(CELL_BYTES / packed.LOAD, rel=0.01)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([Placement("a", "x"), Placement("a", "y")], "listed twice"),
        ([Placement("a", "x", (), 2**28)], "too large"),
        ([Placement("a", "x", (), 0)], "epoch 0"),
        ([Placement(str(n), str(n)) for n in range(65_536)], "too large"),
    ],
)
def test_a_table_beyond_the_limits_is_refused(rows, problem):
    with pytest.raises(TableNotPackable, match=problem):
        pack(rows, [1])


def test_an_image_is_opened_as_it_was_written_and_has_a_unique_name():
    rows = [Placement(f"k{n}", "a", ("b",) if n % 2 else (), n + 1) for n in range(5000)]
    parts = image_parts(pack(rows, [3]), {"version": 9})
    opened = open_image(memoryview(b"".join(parts)))
    assert opened.description == {"version": 9}
    assert dict(PackedPlacements(opened.table)) == {p.key: p for p in rows}
    assert opened.name == image_name(parts[0]) != image_name(image_parts(pack(rows, [4]), {"version": 9})[0])


def test_the_check_of_the_keys_bytes_can_be_skipped():
    content = bytearray(b"".join(image_parts(pack([Placement("some key", "a")], [3]), {})))
    content[content.index(b"some key")] ^= 1
    with pytest.raises(ImageDamaged, match="checksum of its keys"):
        open_image(memoryview(content))
    assert open_image(memoryview(content), check_keys=False).table.value("some key")
