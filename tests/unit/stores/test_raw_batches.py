"""Raw batches: documents, ids and hashes are those of the decoded documents, whatever the type of the id."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from foreshard.ports.migration import RawDocument
from foreshard.stores.bson_codec import RAW, id_bytes
from foreshard.stores.partition.units.raw_batches import add_digests, array_of, bucket_of, documents_in, portions, read_ahead
from foreshard.stores.partition.units.raw_cursor import parted

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
    array = array_of(RawBSONDocument(raw, RAW) for raw in encoded)
    wanted = [RawDocument(id_bytes(document["_id"]), raw) for document, raw in zip(documents, encoded, strict=True)]
    assert list(documents_in(array)) == wanted


@given(st.lists(st.tuples(IDS, st.binary(max_size=50))), st.randoms())
def test_hashes_are_those_of_the_documents_whatever_their_order_and_batches(some, random):
    documents = [RawBSONDocument(bson.encode({"_id": i, "pad": pad}), RAW) for i, pad in some]
    one, other = [0] * 7, [0] * 7
    assert add_digests(array_of(documents), one) == len(documents)
    random.shuffle(documents)
    for document in documents:
        add_digests(array_of([document]), other)
    assert one == other


@given(IDS, st.binary(max_size=50), st.binary(max_size=50))
def test_a_different_document_is_in_the_bucket_of_its_id(identity, pad, other):
    buckets = [0] * 11
    documents = [{"_id": identity, "pad": pad}, {"_id": "another", "pad": other}]
    add_digests(array_of(RawBSONDocument(bson.encode(document), RAW) for document in documents), buckets)
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


@pytest.mark.parametrize("fields", [{"firstBatch": [{"_id": 1}], "id": 7, "ns": "x"}, {"id": 7, "nextBatch": [{"_id": 1}]}])
def test_an_answer_of_the_server_is_parted_into_its_documents_and_the_cursors_id(fields):
    array, cursor = parted(RawBSONDocument(bson.encode(fields), RAW))
    assert [bson.decode(document.raw) for document in documents_in(array)] == [{"_id": 1}]
    assert cursor == 7


@given(st.lists(st.integers(1, 3_000_000), max_size=12), st.integers(1, 5))
def test_portions_hold_every_document_once_and_are_small_enough_for_one_command(sizes, most):
    documents = [RawDocument(b"%d" % n, bytes(size)) for n, size in enumerate(sizes)]
    parts = list(portions(documents, most))
    assert [document for part in parts for document in part] == documents
    assert all(0 < len(part) <= most for part in parts)
    assert all(len(part) == 1 or sum(len(document.raw) for document in part) <= 8 * 2**20 for part in parts)
