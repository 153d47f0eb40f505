"""A comparison and the applier use one replica at once, whatever the app does between a read and its write."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shadow.fakes import NAMESPACE, MemoryPrimary, MemoryReplica, MemoryTarget, shadow

from foreshard.consistency.versions import version_of_write
from foreshard.model import ConflictPolicy, ShardedCollection
from foreshard.shadow.copying import Copier

COLLECTION = ShardedCollection(*NAMESPACE.split("."), "key", ConflictPolicy.LAST_WRITE_WINS)


def compare(primary, replica, between):
    """Copy ``primary`` to ``replica``, and call ``between`` after the read of the source and before the writes."""
    floor = version_of_write("alpha", 1, *primary.tick())
    wanted = replace(shadow(), floor=floor)
    primary.after_scan = lambda: between(wanted)
    copier = Copier(wanted, primary, MemoryTarget(replica), replica, [COLLECTION], replica.conflicts)
    copier.copy(floor, lambda: True)
    return wanted


def of_key(primary):
    return {b"%d" % i: document for i, document in primary.documents.items() if document[0] == "k"}


def test_a_document_that_changed_its_key_between_reading_and_writing_leaves_no_copy_behind():
    primary, replica = MemoryPrimary(), MemoryReplica()
    primary.put(1, "k", b"old")
    applied = len(primary.records)

    def between(wanted):
        primary.put(1, "other", b"moved")
        replica.take(primary.records[applied:], [wanted])

    compare(primary, replica, between)
    assert replica.documents == {}


writes = st.lists(
    st.tuples(st.sampled_from(["k", "other", None]), st.integers(1, 3), st.binary(min_size=1, max_size=2)), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(writes, writes, writes, st.data())
def test_a_copy_equals_its_primary_whatever_was_written_and_applied_meanwhile(before, meanwhile, after, data):
    primary, replica = MemoryPrimary(), MemoryReplica()

    def write(some):
        for key, document, body in some:
            if key is not None:
                primary.put(document, key, body)
            elif document in primary.documents:
                primary.delete(document)

    write(before)
    captured = len(primary.records)
    applied = [captured]

    def between(wanted):
        write(meanwhile)
        applied[0] = data.draw(st.integers(captured, len(primary.records)))
        replica.take(primary.records[captured : applied[0]], [wanted])

    wanted = compare(primary, replica, between)
    write(after)
    replica.take(primary.records[applied[0] :], [wanted])
    assert replica.documents == of_key(primary)
