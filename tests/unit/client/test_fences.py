"""The write loop with a scripted server: what is resent, what is not, and which errors are raised."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from foreshard.client._fences import pauses
from foreshard.client.writing.write_errors import fenced, one_line
from foreshard.errors import AmbiguousWrite, KeyInTransit, Unreachable


def test_a_refused_write_is_sent_to_the_new_owner(fake) -> None:
    world = fake.World(("alpha", 1), ("beta", 2))
    places, attempt = fake.attempts(fake.refused(), "done")
    assert world.write("update_one", "a", attempt) == "done"
    assert places == ["alpha", "beta"]
    assert world.refreshes == 1
    assert world.now == 0


def test_while_the_key_is_still_fenced_the_writer_pauses_and_asks_again(fake) -> None:
    world = fake.World(("alpha", 1), ("alpha", 1), ("alpha", 1), ("beta", 2))
    places, attempt = fake.attempts(fake.refused(), fake.refused(), fake.refused(), "done")
    world.write("update_one", "a", attempt)
    assert places == ["alpha", "alpha", "alpha", "beta"]
    assert 0 < world.now < 0.02


def test_after_a_reverted_move_the_write_is_applied_at_the_old_owner(fake) -> None:
    world = fake.World(("alpha", 1))
    places, attempt = fake.attempts(fake.refused(), "done")
    assert world.write("update_one", "a", attempt) == "done"
    assert places == ["alpha", "alpha"]


def test_after_the_deadline_the_write_is_reported_as_not_applied(fake) -> None:
    world = fake.World(("alpha", 1))
    places, attempt = fake.attempts(*[fake.refused() for _ in range(1000)])
    with pytest.raises(KeyInTransit) as late:
        world.write("update_one", "a", attempt, deadline=1.0)
    assert 1.0 < late.value.waited.total_seconds() < 1.2
    assert len(places) < 40


def test_the_deadline_also_holds_for_keys_that_move_in_circles(fake) -> None:
    world = fake.World(*[("alpha" if n % 2 else "beta", n) for n in range(1000)])
    _, attempt = fake.attempts(*[fake.refused() for _ in range(1000)])
    world.refresh = lambda: world.sleep(0.1) or 0  # type: ignore[method-assign]
    with pytest.raises(KeyInTransit):
        world.write("update_one", "a", attempt, deadline=0.5)


def test_the_apps_own_validation_error_is_raised_unchanged_after_one_refresh(fake) -> None:
    world = fake.World(("alpha", 1))
    error = fake.refused(fake.OWN_RULE)
    _, attempt = fake.attempts(error)
    with pytest.raises(WriteError) as seen:
        world.write("update_one", "a", attempt)
    assert seen.value is error
    assert world.refreshes == 1


def test_without_error_details_the_collections_options_reveal_a_fence(fake) -> None:
    world = fake.World(("alpha", 1))
    marker = {"$comment": {"foreshard": {"revision": 1, "level": "strict", "action": "error", "validator": None}}}
    world.options = {"validator": {"$and": [{"k": {"$nin": ["a"]}}, marker]}}
    _, attempt = fake.attempts(fake.refused({}), "done")
    assert world.write("update_one", "a", attempt) == "done"
    _, attempt = fake.attempts(fake.refused({}))
    with pytest.raises(WriteError):
        world.write("update_one", "other", attempt)


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("stepped down"),
        WriteConcernError("waiting for replication timed out", 64),
        OperationFailure("interrupted at shutdown", 11600),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_write_whose_answer_was_lost_is_never_sent_again(error, fake) -> None:
    places, attempt = fake.attempts(error)
    with pytest.raises(AmbiguousWrite) as lost:
        fake.World(("alpha", 1)).write("update_one", "a", attempt)
    assert places == ["alpha"]
    assert lost.value.__cause__ is error
    assert type(error).__name__ in lost.value.cause


def silence() -> ServerSelectionTimeoutError:
    return ServerSelectionTimeoutError("alpha: connection refused")


def test_a_write_to_an_unreachable_partition_waits_until_the_deadline_and_is_not_ambiguous(fake) -> None:
    world = fake.World(("alpha", 1))
    places, attempt = fake.attempts(*[silence() for _ in range(1000)])
    with pytest.raises(Unreachable, match="partition alpha"):
        world.write("insert_one", "a", attempt, deadline=1.0)
    assert 1.0 <= world.now < 1.2
    assert 5 < len(places) < 40


def test_a_write_is_applied_when_its_partition_returns_or_its_key_has_moved(fake) -> None:
    for places in ((("alpha", 1),), (("alpha", 1), ("beta", 2))):
        world = fake.World(*places)
        tried, attempt = fake.attempts(silence(), "done")
        assert world.write("insert_one", "a", attempt) == "done"
        assert tried == ["alpha", places[-1][0]]
        assert world.refreshes == 1


def test_any_other_error_is_raised_unchanged(fake) -> None:
    error = DuplicateKeyError("E11000", 11000)
    _, attempt = fake.attempts(error)
    with pytest.raises(DuplicateKeyError) as seen:
        fake.World(("alpha", 1)).write("insert_one", "a", attempt)
    assert seen.value is error


def test_a_write_without_a_match_is_repeated_only_if_the_key_has_moved(fake) -> None:
    places, attempt = fake.attempts("nothing", "done")
    written = fake.World(("alpha", 1), ("beta", 2)).write("update_one", "a", attempt, missed=lambda r: r == "nothing")
    assert (written, places) == ("done", ["alpha", "beta"])
    places, attempt = fake.attempts("nothing")
    written = fake.World(("alpha", 1)).write("update_one", "a", attempt, missed=lambda r: r == "nothing")
    assert (written, places) == ("nothing", ["alpha"])


def test_while_the_sidecar_can_not_refresh_the_writer_waits(fake) -> None:
    world = fake.World(("alpha", 1), ("alpha", 1), ("beta", 2))

    def fail() -> None:
        raise Unreachable("sidecar", "here", "it can't reach the control database")

    world.refresh = fail  # type: ignore[method-assign]
    _, attempt = fake.attempts(fake.refused(), fake.refused(), "done")
    assert world.write("update_one", "a", attempt) == "done"


def test_only_the_fences_own_clause_counts_as_a_fence(fake) -> None:
    assert fenced(fake.FENCE, "k") is True
    assert fenced(fake.OWN_RULE, "k") is False
    assert fenced(fake.BESIDE, "k") is False
    assert fenced(fake.FENCE, "other") is False
    assert fenced({}, "k") is None


def test_pauses_grow_to_a_limit_with_jitter(fake) -> None:
    waiting = pauses(0.01, 0.08)
    seconds = [next(waiting) for _ in range(20)]
    assert all(0.005 <= pause <= 0.08 for pause in seconds)
    assert max(seconds[5:]) > 0.04
    assert len(set(seconds)) > 15


def test_errors_are_shortened_to_one_line(fake) -> None:
    long = ServerSelectionTimeoutError("127.0.0.1:1: refused (configured timeouts: x), Timeout: 5s, Topology: <\nlong>")
    assert one_line(long) == "ServerSelectionTimeoutError: 127.0.0.1:1: refused"
