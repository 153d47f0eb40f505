from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shadow.fakes import MemoryReplica, record, shadow

from foreshard.consistency.vectors import Order
from foreshard.model import ConflictPolicy
from foreshard.shadow._apply import route


@st.composite
def histories(draw):
    """One primary's changes of three documents: writes with a key, deletes without one, in the order of its clock."""
    times = range(1, draw(st.integers(1, 8)) + 1)
    return [
        record(time, draw(st.sampled_from(["k", None])), b"body %d" % time, draw(st.integers(1, 3)), rekeyed=False)
        for time in times
    ]


def outcome(history):
    """The primary's final state: document → body."""
    documents = {}
    for change in history:
        documents.pop(change.identity, None)
        if change.key is not None:
            documents[change.identity] = (change.key, change.document)
    return documents


@settings(max_examples=100, deadline=None)
@given(histories(), st.data(), st.sampled_from(ConflictPolicy))
def test_a_replica_equals_its_primary_however_changes_are_ordered_repeated_and_batched(history, data, policy):
    deliveries = data.draw(st.permutations(history + data.draw(st.lists(st.sampled_from(history), max_size=4))))
    replica = MemoryReplica(policy)
    while deliveries:
        size = data.draw(st.integers(1, len(deliveries)))
        replica.take(deliveries[:size], [shadow()])
        deliveries = deliveries[size:]
    assert replica.documents == outcome(history)
    assert replica.conflicts.copies == []


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 8), st.data())
def test_a_change_that_a_comparison_covers_is_not_applied_again(history, floor, data):
    replica = MemoryReplica()
    replica.take(data.draw(st.permutations(history)), [shadow(floor=floor)])
    after = [change for change in history if change.version.time.physical > floor]
    shown = outcome(after)
    assert {i: d for i, d in replica.documents.items() if i in shown} == dict(shown.items())
    assert set(replica.documents) <= {change.identity for change in after}


def test_records_go_to_every_shadow_of_their_key_and_deletes_to_every_target_of_their_origin():
    shadows = [
        shadow("k", target="beta"),
        shadow("k", target="gamma"),
        shadow("other", target="gamma"),
        shadow("x", "beta", "alpha"),
    ]
    routed = route([record(1, "k"), record(2, "other"), record(3, None), record(4, None, origin="beta")], shadows)
    assert {target: [r.version.time.physical for r in records] for target, records in routed.items()} == {
        "beta": [1, 3],
        "gamma": [1, 2, 3],
        "alpha": [4],
    }


def test_a_shadow_whose_comparison_has_not_begun_takes_no_records():
    assert route([record(1)], [shadow(floor=None)]) == {}


def test_the_new_primary_supersedes_what_the_old_one_sends_late():
    replica, moved = MemoryReplica(), shadow(source="gamma", epoch=2, floor=5)
    replica.take([record(6, origin="gamma", epoch=2, body=b"new")], [moved])
    replica.take([record(900, origin="alpha", epoch=1, body=b"late"), record(901, None, origin="alpha")], [moved])
    assert replica.documents == {b"1": ("k", b"new")}


def test_a_document_that_changes_its_key_leaves_the_shadow_of_the_old_one():
    replica = MemoryReplica()
    replica.take([record(1, "k"), record(2, "other", rekeyed=True)], [shadow("k")])
    assert replica.documents == {}
    replica.take([record(3, "k", body=b"back", rekeyed=True)], [shadow("k")])
    assert replica.documents == {b"1": ("k", b"back")}


def test_a_document_passes_between_two_shadowed_keys_of_different_epochs():
    replica, here = MemoryReplica(), [shadow("k", epoch=5), shadow("other", epoch=2)]
    replica.take([record(1, "k", epoch=5), record(2, "other", epoch=2, rekeyed=True, body=b"moved")], here)
    assert replica.documents == {b"1": ("other", b"moved")}


def test_a_concurrent_loser_is_kept_with_its_body():
    replica = MemoryReplica()
    replica.take([record(10, body=b"primary")], [shadow()])
    replica.take([record(20, origin="gamma", body=b"elsewhere")], [shadow()])
    assert replica.documents == {b"1": ("k", b"elsewhere")}
    assert [copy.body for copy in replica.conflicts.copies] == [b"primary"]


def test_siblings_are_kept_until_a_write_covers_them():
    replica = MemoryReplica(ConflictPolicy.VECTOR_CLOCK)
    left, right = record(10, body=b"left"), record(20, origin="gamma", body=b"right")
    replica.take([left, right], [shadow()])
    standing = replica.standing[b"1"].replica
    assert replica.documents == {b"1": ("k", b"right")}
    assert [copy.body for copy in standing.siblings] == [b"left"]
    merged = record(30, body=b"merged")
    vector = merged.version.vector.merge(right.version.vector)
    assert vector.compare(left.version.vector) is Order.AFTER
    covering = type(merged.version)(1, merged.version.time, vector)
    replica.take([type(merged)(merged.namespace, 1, b"1", "k", "alpha", covering, b"merged")], [shadow()])
    assert replica.documents == {b"1": ("k", b"merged")}
    assert replica.standing[b"1"].replica.siblings == ()
