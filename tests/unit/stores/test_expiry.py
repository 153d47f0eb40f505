"""Which documents a TTL index has expired: the date, the earliest of an array, and never without a date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import bson
import pytest
from bson import DatetimeMS
from bson.raw_bson import RawBSONDocument

from foreshard.stores.bson_codec import RAW
from foreshard.stores.partition.units.expiry import expiry_rules, is_expired, still_there

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
RULES = expiry_rules([{"name": "_id_", "key": {"_id": 1}}, {"name": "t", "key": {"s.at": 1}, "expireAfterSeconds": 600}])
OLD, SOON, LATER = NOW - timedelta(hours=1), NOW - timedelta(minutes=9, seconds=30), NOW - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("document", "expired"),
    [
        ({"s": {"at": OLD}}, True),
        ({"s": {"at": SOON}}, True),
        ({"s": {"at": LATER}}, False),
        ({"s": {"at": [LATER, OLD]}}, True),
        ({"s": [{"at": LATER}, {"at": OLD}]}, True),
        ({"s": [{"at": LATER}, {"at": "text"}]}, False),
        ({"s": {"at": "2020-01-01"}}, False),
        ({"s": {"at": None}}, False),
        ({"s": {"at": 0}}, False),
        ({"at": OLD}, False),
        ({"s": {"at": DatetimeMS(-(2**60))}}, True),
        ({"s": {"at": DatetimeMS(2**60)}}, False),
    ],
)
def test_a_document_expires_some_time_after_its_earliest_date(document, expired):
    assert is_expired(RULES, RawBSONDocument(bson.encode(document), RAW), NOW) is expired


def test_without_a_ttl_index_nothing_expires():
    assert expiry_rules([{"name": "at_1", "key": {"at": 1}}]) == ()
    assert still_there((), NOW) == {}


def test_what_a_partial_index_may_expire_counts_as_expired():
    index = {"name": "p", "key": {"at": 1}, "expireAfterSeconds": 0, "partialFilterExpression": {"kind": "guest"}}
    assert is_expired(expiry_rules([index]), {"at": OLD, "kind": "member"}, NOW)


def test_an_index_whose_time_is_not_a_number_expires_at_once():
    assert is_expired(expiry_rules([{"name": "n", "key": {"at": 1}, "expireAfterSeconds": float("nan")}]), {"at": NOW}, NOW)
