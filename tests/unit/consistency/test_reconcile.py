from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.reconcile import Action, Replica, VersionedDocument, join, reconcile
from foreshard.consistency.vectors import Order, VersionVector
from foreshard.consistency.versions import Version, version_of_write
from foreshard.model import ConflictPolicy

LAST, VECTOR = ConflictPolicy.LAST_WRITE_WINS, ConflictPolicy.VECTOR_CLOCK
policies = st.sampled_from(ConflictPolicy)


@st.composite
def histories(draw):
    """Versions of one document by up to three origins, each written after some others were seen, including deletes."""
    counters = {"a": 0, "b": 0, "c": 0}
    copies = []
    for number in range(draw(st.integers(1, 7))):
        origin = draw(st.sampled_from("abc"))
        counters[origin] += 1
        seen = draw(st.lists(st.sampled_from(copies), max_size=3)) if copies else []
        own = [copy for copy in copies if copy.version.time.origin == origin]
        vector = reduce(VersionVector.merge, [c.version.vector for c in seen + own], VersionVector())
        epoch = max([c.version.epoch for c in seen + own] + [draw(st.integers(1, 2))])
        floor = max([c.version.time.physical for c in seen + own] + [0])
        time = HybridTime(floor + draw(st.integers(1, 3)), 0, origin)
        body = draw(st.none() | st.just(b"document %d" % number))
        copies.append(VersionedDocument(Version(epoch, time, vector.advance(origin, counters[origin])), body))
    return copies


def deliver(policy, copies):
    replica, kept = None, []
    for copy in copies:
        decision = reconcile(policy, replica, copy)
        replica = decision.replica
        kept.extend(decision.conflicts)
    return replica, kept


def newest(copies):
    """The versions that no other covers."""
    return {c for c in copies if not any(c.version.compare(other.version) is Order.BEFORE for other in copies)}


@settings(max_examples=100, deadline=None)
@given(policies, histories(), st.data())
def test_replicas_converge_for_any_order_and_repetition(policy, copies, data):
    one = data.draw(st.permutations(copies))
    other = data.draw(st.permutations(copies)) + data.draw(st.lists(st.sampled_from(copies), max_size=5))
    assert deliver(policy, one)[0] == deliver(policy, other)[0]


@settings(max_examples=100, deadline=None)
@given(histories(), st.data())
def test_siblings_and_tombstones_are_never_lost(copies, data):
    replica, _ = deliver(VECTOR, data.draw(st.permutations(copies)))
    assert set(replica.copies) == newest(copies)
    assert replica.shown == max(newest(copies), key=lambda copy: copy.version.stamp)


@settings(max_examples=100, deadline=None)
@given(histories(), st.data())
def test_the_last_write_wins_and_every_concurrent_loser_is_kept(copies, data):
    replica, kept = deliver(LAST, data.draw(st.permutations(copies)))
    assert replica == Replica(max(copies, key=lambda copy: copy.version.stamp))
    assert newest(copies) <= {replica.shown, *kept}
    assert not any(k.version.compare(replica.shown.version) is Order.AFTER for k in kept)


@settings(max_examples=100, deadline=None)
@given(policies, histories(), st.data())
def test_joining_replicas_is_associative_commutative_and_idempotent(policy, copies, data):
    some = st.lists(st.sampled_from(copies), min_size=1).map(lambda chosen: deliver(policy, chosen)[0])
    one, two, three = data.draw(some), data.draw(some), data.draw(some)
    assert join(policy, join(policy, one, two), three) == join(policy, one, join(policy, two, three))
    assert join(policy, one, two) == join(policy, two, one)
    assert join(policy, one, one) == one


@settings(max_examples=100, deadline=None)
@given(policies, histories(), st.data())
def test_joining_two_replicas_equals_receiving_all_versions(policy, copies, data):
    cut = data.draw(st.integers(1, len(copies)))
    one, two = copies[:cut], copies[cut - 1 :]
    assert join(policy, deliver(policy, one)[0], deliver(policy, two)[0]) == deliver(policy, copies)[0]


@settings(max_examples=100, deadline=None)
@given(policies, histories())
def test_a_repeated_delivery_changes_nothing(policy, copies):
    replica, _ = deliver(policy, copies)
    for copy in copies:
        again = reconcile(policy, replica, copy)
        assert again.replica == replica
        assert again.action is not Action.APPLY


def version(epoch, origin, seconds, increment, seen=None):
    return version_of_write(origin, epoch, 1_700_000_000 + seconds, increment, seen)


def test_a_version_of_a_later_epoch_supersedes_all_earlier_epochs():
    old, new = VersionedDocument(version(1, "alpha", 500, 9), b"old"), VersionedDocument(version(2, "beta", 3, 1), b"new")
    for policy in ConflictPolicy:
        for order in ([old, new], [new, old]):
            assert deliver(policy, order) == (Replica(new), [])


def test_the_same_event_has_the_same_version():
    assert version(1, "alpha", 3, 4) == version(1, "alpha", 3, 4)
    assert version(1, "alpha", 3, 4).compare(version(1, "alpha", 3, 5)) is Order.BEFORE
    assert version(1, "alpha", 3, 4).stamp < version(1, "alpha", 3, 5).stamp < version(1, "alpha", 4, 1).stamp


def test_a_counter_fits_into_64_bits_until_2087():
    written = version_of_write("alpha", 1, 3_720_000_000, 2**32 - 1)
    assert dict(written.vector.entries)["alpha"] < 2**63


def test_a_concurrent_loser_is_kept_and_an_obsolete_one_is_not():
    first = VersionedDocument(version(1, "alpha", 1, 1), b"first")
    second = VersionedDocument(version(1, "alpha", 2, 1), b"second")
    rival = VersionedDocument(version(1, "gamma", 1, 5), b"rival")
    assert reconcile(LAST, Replica(second), first).action is Action.DISCARD
    kept = reconcile(LAST, Replica(second), rival)
    assert (kept.action, kept.conflicts) == (Action.KEEP, (rival,))


def test_a_write_that_has_seen_all_siblings_ends_the_conflict():
    left, right = VersionedDocument(version(1, "alpha", 1, 1), b"left"), VersionedDocument(version(1, "gamma", 2, 1), None)
    replica, _ = deliver(VECTOR, [left, right])
    assert set(replica.copies) == {left, right}
    merged = VersionedDocument(version(1, "alpha", 3, 1, right.version.vector), b"merged")
    assert reconcile(VECTOR, replica, merged).replica == Replica(merged)


@pytest.mark.parametrize("policy", list(ConflictPolicy))
def test_a_tombstone_wins_over_a_late_older_write(policy):
    old, gone = VersionedDocument(version(1, "alpha", 1, 1), b"old"), VersionedDocument(version(1, "alpha", 2, 1), None)
    decision = reconcile(policy, Replica(gone), old)
    assert (decision.action, decision.replica) == (Action.DISCARD, Replica(gone))
