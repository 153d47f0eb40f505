"""The account of the records that a run has read."""

import pytest

from foreshard.errors import CorruptLog
from foreshard.stages.observing.account import account_of


def test_every_record_is_tallied_quarantined_a_duplicate_or_outside() -> None:
    assert account_of("log", 1_010, 1_000, 3, 7) == "1,010 records read = 1,000 tallied + 3 quarantined + 7 duplicates"
    assert account_of("log", 11, 4, 3, 2, 2).endswith(" + 2 duplicates + 2 outside these hours")


@pytest.mark.parametrize("read", [1_009, 1_011])
def test_a_record_that_is_lost_or_counted_twice_is_an_error(read: int) -> None:
    with pytest.raises(CorruptLog, match=f"{read:,} records were read, but 1,000 tallied"):
        account_of("log", read, 1_000, 3, 7)
