from datetime import UTC, datetime

import pytest
from tests.unit.shadow.fakes import shadow

from foreshard.model import Placement
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replication import ApplyProgress, CapturedChange, CaptureState
from foreshard.shadow._capture import to_records
from foreshard.shadow.upkeep import UpkeepContext, captured_keys, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def around(primary="alpha", shadows=(), epoch=1, capture_id="one", cycle=0):
    return UpkeepContext(
        {"k": Placement("k", primary, shadows, epoch)},
        {"alpha": CaptureState("alpha", capture_id, b"", frozenset("k"), cycle)},
        {"alpha": ApplyProgress(capture_id, cycle, NOW)},
    )


def test_all_is_well_with_a_live_shadow_of_an_unmoved_key():
    assert judge(shadow(capture_id="one"), around(shadows=("beta",))) is None


def test_a_moved_primary_calls_for_a_new_comparison_with_the_new_one():
    event, fields = judge(shadow(capture_id="one"), around(primary="gamma", epoch=2))
    assert event == "recopy"
    assert (fields["source"], fields["epoch"], fields["lease"], fields["floor"]) == ("gamma", 2, 8, None)


def test_a_shadow_on_the_partition_that_becomes_the_primary_is_absorbed():
    event, _ = judge(shadow(), around(primary="beta", epoch=2))
    assert event == "absorb"


def test_a_gap_in_the_capture_calls_for_a_new_comparison():
    event, fields = judge(shadow(capture_id="one"), around(capture_id="two"))
    assert (event, fields["capture_id"]) == ("recopy", None)


@pytest.mark.parametrize(("cycle", "verdict"), [(4, None), (5, "caught_up")])
def test_a_copy_has_caught_up_when_the_awaited_cycle_is_applied(cycle, verdict):
    catching = shadow(state=ShadowState.CATCHING_UP, capture_id="one", wait_cycle=5)
    found = judge(catching, around(cycle=cycle))
    assert (found and found[0]) == verdict


def test_progress_of_another_incarnation_does_not_count():
    catching = shadow(state=ShadowState.CATCHING_UP, capture_id="one", wait_cycle=5)
    surroundings = UpkeepContext({}, {}, {"alpha": ApplyProgress("older", 99, NOW)})
    assert judge(catching, surroundings) is None


def test_a_ready_shadow_that_the_table_lists_is_live():
    assert judge(shadow(state=ShadowState.READY, capture_id="one"), around(shadows=("beta",))) == ("publish", {})


def test_each_source_is_captured_for_the_keys_of_its_shadows():
    wanted = captured_keys([shadow("k"), shadow("k", target="gamma", epoch=3), shadow("x", source="beta", target="alpha")])
    assert wanted == {"alpha": {"k": 3}, "beta": {"x": 1}}


def test_the_same_change_makes_the_same_record_however_often_it_is_captured():
    changes = [
        CapturedChange("app.documents", 1, b"1", "k", b"body", 1_700_000_000, 4),
        CapturedChange("app.documents", 2, b"2", None, None, 1_700_000_000, 5),
        CapturedChange("app.documents", 3, b"3", "not captured any more", b"body", 1_700_000_000, 6),
    ]
    first, again = to_records(changes, "alpha", {"k": 3}), to_records(changes, "alpha", {"k": 3})
    assert first == again
    assert [(r.key, r.version.epoch, r.version.time.physical, r.version.time.counter) for r in first] == [
        ("k", 3, 1_700_000_000_000, 4),
        (None, 0, 1_700_000_000_000, 5),
    ]
