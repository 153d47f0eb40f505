"""The gates of the plan and the table over real hours of the sample: no stop, and few warnings.

`make nightly` replays a month (``FORESHARD_GATED_DAYS``), `make test` three days.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from tests.unit.quality.replayed_decisions import Decided, decided_hours
from tests.unit.quality.sample_hours import at

from foreshard.quality.gates import check_plan, check_table
from foreshard.settings import PlanSettings

DAYS = int(os.environ.get("FORESHARD_GATED_DAYS", "3"))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decided, ...]:
    return decided_hours(at(6, 1), DAYS, tmp_path_factory.mktemp("replay"))


def test_no_hours_plan_or_table_of_the_sample_is_stopped(replayed: tuple[Decided, ...]) -> None:
    """Hours in which nothing was decided since the hour before are left out of the short version."""
    assert len(replayed) == 24 * DAYS
    assert sum(len(one.plan.moves) for one in replayed) > 10
    assert replayed[-1].table.version > 10
    failures, warnings, hours = list[str](), Counter[str](), 0
    version = 0
    for one in replayed:
        idle = not (one.plan.moves or one.plan.shadows or one.plan.removals or one.plan.refusals)
        if DAYS <= 3 and idle and one.table.version == version:
            continue
        hours, version = hours + 1, one.table.version
        plan = check_plan(one.plan, one.partitions, PlanSettings(), scored=one.scored)
        table = check_table(
            one.table, one.partitions, one.hour, last_version=version, previous_keys=one.listed, changes=one.changes
        )
        failures += [f"{one.hour:%m-%dT%H} {line}" for line in (*plan.failures, *table.failures)]
        warnings.update([*plan.warnings, *table.warnings])
    print(f"{hours} of {len(replayed)} hours: {len(failures)} failures, {warnings.total()} warnings")
    assert failures == []
    assert dict(warnings) == {}
