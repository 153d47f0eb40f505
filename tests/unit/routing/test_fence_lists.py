"""The fence's lists refuse exactly what its operations say, and stay canonical."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace, KeyType, slot_number, slot_unit
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.partition._slot_filter import bitmap, slots_in
from foreshard.stores.partition.fences.fence_validator import ERROR, STRICT, AppRules, compose, read_options

SPACE = KeySpace(slots=8)
KEYS = [f"key {number}" for number in range(40)]
SLOT_UNITS = [slot_unit(slot) for slot in range(SPACE.slots)]
SOME_KEYS = st.sets(st.sampled_from(KEYS), max_size=6)
UNITS = st.sets(st.sampled_from([*KEYS, *SLOT_UNITS]), max_size=6)
STEPS = st.lists(st.tuples(st.booleans(), UNITS, SOME_KEYS), max_size=12)


def named(units: set[str], exceptions: set[str], key: str) -> bool:
    """Whether units without exceptions contain a key."""
    return key in units or (slot_unit(SPACE.slot_of(key)) in units and key not in exceptions)


def after(steps: list) -> tuple[FenceLists, dict[str, bool]]:
    """The lists after some operations, and what they should refuse by definition."""
    lists, refused = FenceLists(SPACE), dict.fromkeys(KEYS, False)
    for is_fence, units, exceptions in steps:
        lists = (lists.fence if is_fence else lists.unfence)(units, exceptions)
        refused |= {key: is_fence for key in KEYS if named(units, exceptions, key)}
    return lists, refused


@given(STEPS)
def test_a_key_is_refused_from_its_fence_to_its_lifting_whatever_happens_to_others(steps):
    lists, refused = after(steps)
    assert {key: lists.refuses(key) for key in KEYS} == refused


@given(STEPS)
def test_the_lists_are_canonical(steps):
    lists, _ = after(steps)
    assert not {key for key in lists.elsewhere if SPACE.slot_of(key) in lists.slots}
    assert all(SPACE.slot_of(key) in lists.slots for key in lists.here)


@given(STEPS, UNITS, SOME_KEYS)
def test_units_are_covered_if_every_key_of_them_is_refused(steps, units, exceptions):
    lists, _ = after(steps)
    fenced = lists.fence(units, exceptions)
    assert fenced.covers(units, exceptions)
    slots = {slot for unit in units if (slot := slot_number(unit)) is not None}
    whole = slots <= lists.slots and all(lists.refuses(key) for key in KEYS if named(units, exceptions, key))
    assert lists.covers(units, exceptions) == whole


@given(STEPS, STEPS)
def test_joined_fences_refuse_what_either_refuses(some, others):
    one, other = after(some)[0], after(others)[0]
    joined = one.joined(other)
    assert {key: joined.refuses(key) for key in KEYS} == {k: one.refuses(k) or other.refuses(k) for k in KEYS}
    assert not {key for key in joined.elsewhere if SPACE.slot_of(key) in joined.slots}


@given(STEPS, st.sampled_from([None, {"bikes": {"$gte": 0}}]), st.sampled_from([STRICT, "off"]))
def test_a_validator_says_which_fence_it_enforces_and_what_the_app_has_set(steps, own, level):
    lists, rules = after(steps)[0], AppRules(own, level, ERROR)
    collection = ShardedCollection("d", "c", "at.key")
    read = read_options(compose(collection, lists, 7, rules), collection)
    assert read.rules == rules
    assert (read.lists, read.revision) == ((lists, 7) if lists else (FenceLists(KeySpace()), 0))


@given(st.sets(st.integers(0, 4095)))
def test_a_bitmap_is_read_as_it_was_written(slots):
    assert slots_in(bitmap(slots, 4096)) == slots


def test_a_validator_of_an_older_version_is_read():
    marker = {"$comment": {"foreshard": {"revision": 3, "level": STRICT, "action": ERROR, "validator": None}}}
    clauses = [{"key": {"$nin": ["a", "b"]}}, marker, {"bikes": 1}]
    read = read_options({"validator": {"$and": clauses}}, ShardedCollection("d", "c", "key"))
    assert (read.lists.elsewhere, read.revision, read.rules.validator) == ({"a", "b"}, 3, {"bikes": 1})


def test_keys_of_every_type_are_written_as_values_of_that_type():
    for key_type, keys in (
        (KeyType.INT, ("7", "-12")),
        (KeyType.OBJECT_ID, ("0123456789abcdef01234567",)),
        (KeyType.UUID, ("12345678-1234-5678-1234-567812345678",)),
    ):
        collection = ShardedCollection("d", "c", "key", key_type=key_type)
        lists = FenceLists(KeySpace(key_type)).fence([*keys, slot_unit(1)])
        assert read_options(compose(collection, lists, 1, AppRules()), collection).lists == lists
