"""Access records of routed operations."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from foreshard.client._records import Recorder, RequestScope
from foreshard.model import AccessRecord
from foreshard.observe.pseudonym import SESSION, pseudonym

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


class FakeEmitter:
    dropped = 0

    def __init__(self) -> None:
        self.records: list[AccessRecord] = []

    def emit(self, record: AccessRecord) -> None:
        self.records.append(record)

    def flush(self, timeout: float) -> int:
        return 0

    def close(self, timeout: float = 5.0) -> None: ...


@pytest.fixture
def emitter() -> FakeEmitter:
    return FakeEmitter()


@pytest.fixture
def recorder(emitter) -> Recorder:
    return Recorder(emitter, b"secret", RequestScope(location="San Jose"), clock=lambda: NOON)


def test_an_access_is_recorded_with_the_pseudonyms_of_user_and_session_never_the_raw_ids(recorder, emitter) -> None:
    with recorder.request(RequestScope("checkout", user="rider 17", session="rider 17")):
        recorder.record(recorder.current(), ["k"], "update", 0.0)
    (record,) = emitter.records
    user, session = pseudonym(b"secret", "rider 17"), pseudonym(b"secret", "rider 17", SESSION)
    assert record == AccessRecord(NOON, "k", user, "checkout", "San Jose", session, None)
    assert user != session
    assert "rider" not in f"{record.user_id}{record.session_id}"


def test_without_a_request_the_verb_and_the_clients_location_are_recorded(recorder, emitter) -> None:
    recorder.record(recorder.current(), ["a", "b"], "read", 0.0)
    assert [(r.partitionable_key, r.request_type, r.user_id, r.location) for r in emitter.records] == [
        ("a", "read", None, "San Jose"),
        ("b", "read", None, "San Jose"),
    ]


def test_an_inner_request_completes_the_outer_one_and_ends_with_its_block(recorder) -> None:
    later = datetime(2024, 3, 1, 13, tzinfo=UTC)
    with recorder.request(RequestScope("checkout", user="u", session="s")):
        with recorder.request(RequestScope("read", location="Palo Alto", timestamp=later)):
            assert recorder.current() == RequestScope("read", "u", "s", "Palo Alto", later)
        assert recorder.current("scan") == RequestScope("scan", "u", "s", "San Jose", None)
        assert recorder.current(RequestScope(user="other")).user == "other"
    assert recorder.current() == RequestScope(location="San Jose")


def test_each_thread_has_its_own_request(recorder) -> None:
    seen: list[RequestScope] = []
    with recorder.request(RequestScope("checkout", user="u")):
        thread = threading.Thread(target=lambda: seen.append(recorder.current()))
        thread.start()
        thread.join()
    assert seen == [RequestScope(location="San Jose")]


def test_the_apps_timestamp_overrides_the_clock(recorder, emitter) -> None:
    earlier = datetime(2014, 8, 1, 8, tzinfo=UTC)
    recorder.record(RequestScope(timestamp=earlier), ["k"], "read", 0.0)
    assert emitter.records[0].timestamp == earlier


def test_a_measured_cost_is_divided_among_the_keys_of_one_operation(emitter) -> None:
    recorder = Recorder(emitter, None, RequestScope(), measure=True)
    recorder.record(recorder.current(), ["a", "b"], "scan", recorder.start() - 1.0)
    costs = [record.cost for record in emitter.records]
    assert costs[0] == costs[1]
    assert costs[0] is not None
    assert costs[0] >= 500.0


def test_without_the_secret_no_user_and_no_session_is_recorded(emitter) -> None:
    recorder = Recorder(emitter, None, RequestScope(user="rider 17", session="s1"))
    recorder.record(recorder.current(), ["k"], "read", 0.0)
    assert (emitter.records[0].user_id, emitter.records[0].session_id) == (None, None)


def test_a_record_that_can_not_be_made_does_not_fail_the_app(recorder, emitter, caplog) -> None:
    def broken(_record: AccessRecord) -> None:
        raise RuntimeError("no")

    emitter.emit = broken
    for _ in range(3):
        recorder.record(recorder.current(), ["k"], "read", 0.0)
    assert len(caplog.records) == 1


def test_without_an_emitter_nothing_is_recorded() -> None:
    recorder = Recorder(None, None, RequestScope())
    recorder.record(recorder.current(), ["k"], "read", 0.0)
    assert (recorder.flush(1.0), recorder.dropped) == (0, 0)
