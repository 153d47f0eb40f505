"""Raw batches: documents, ids and hashes are those of the decoded documents, whatever the type of the id."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from foreshard.ports.migration import RawDocument
from foreshard.stores.bson_codec import id_bytes
from foreshard.stores.partition.units.raw_batches import add_digests, bucket_of, count_in, documents_in, read_ahead

IDS = st.one_of(
    st.text().filter(lambda text: "\0" not in text),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False),
    st.binary(),
    st.binary(min_size=16, max_size=16).map(lambda data: Binary(data, 4)),
    st.sampled_from([None, True, ObjectId(), Decimal128("1.10"), Timestamp(5, 1), datetime(2026, 1, 5, tzinfo=UTC)]),
    st.sampled_from([MaxKey(), Regex("a", "i"), {"b": 1, "a": [1, {"c": None}]}]),
)


@given(st.lists(st.tuples(IDS, st.binary(max_size=50), st.booleans())))
def test_the_documents_of_a_batch_are_found_with_their_ids(some):
    documents = [{"_id": i, "pad": pad} if first else {"pad": pad, "_id": i} for i, pad, first in some]
    encoded = [bson.encode(document) for document in documents]
    batch = b"".join(encoded)
    wanted = [RawDocument(id_bytes(document["_id"]), raw) for document, raw in zip(documents, encoded, strict=True)]
    assert list(documents_in(batch)) == wanted
    assert count_in(batch) == len(documents)


@given(st.lists(st.tuples(IDS, st.binary(max_size=50))), st.randoms())
def test_hashes_are_those_of_the_documents_whatever_their_order_and_batches(some, random):
    encoded = [bson.encode({"_id": i, "pad": pad}) for i, pad in some]
    one, other = [0] * 7, [0] * 7
    assert add_digests(b"".join(encoded), one) == len(encoded)
    random.shuffle(encoded)
    for raw in encoded:
        add_digests(raw, other)
    assert one == other


@given(IDS, st.binary(max_size=50), st.binary(max_size=50))
def test_a_different_document_is_in_the_bucket_of_its_id(identity, pad, other):
    buckets = [0] * 11
    add_digests(bson.encode({"_id": identity, "pad": pad}), buckets)
    add_digests(bson.encode({"_id": "another", "pad": other}), buckets)
    assert {n for n, total in enumerate(buckets) if total} == {
        bucket_of(id_bytes(identity), 11), bucket_of(id_bytes("another"), 11)
    }  # fmt: skip


def test_items_that_are_read_ahead_come_in_order_and_their_error_comes_last():
    def items():
        yield from range(5)
        raise OSError("gone")

    ahead = read_ahead(items())
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_reading_ahead_ends_with_its_thread_and_closes_the_items_when_it_is_closed():
    ended, before = [], threading.active_count()

    def items():
        try:
            yield from range(10**9)
        finally:
            ended.append(True)

    ahead = read_ahead(items())
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert ended == [True]
    assert threading.active_count() == before
