"""``publish_edit``: the one way to change a row of the routing table."""

import pytest

from foreshard.errors import StaleEpoch
from foreshard.model import PlacementChange
from foreshard.ports.publishing import ATTEMPTS, TableEdit, publish_edit

CHANGE = PlacementChange("k", "alpha", (), 1, 2)


class Table:
    """Raises StaleEpoch for the first ``overtaken`` publications."""

    def __init__(self, overtaken=0):
        self.overtaken, self.published = overtaken, []

    def publish(self, changes, cause, *, within=None, move_id=""):
        if self.overtaken:
            self.overtaken -= 1
            raise StaleEpoch("k", 1, 2)
        self.published.append((changes, cause, within))
        return 7


def test_the_edit_is_published_with_its_cause_and_transaction():
    table = Table()

    def within(session, version):
        raise AssertionError

    assert publish_edit(table, lambda: TableEdit([CHANGE], "why", within)) == 7
    assert table.published == [([CHANGE], "why", within)]


def test_without_an_edit_nothing_is_published():
    table = Table()
    assert publish_edit(table, lambda: None) is None
    assert table.published == []


def test_the_edit_is_made_again_for_each_attempt():
    made = []

    def edit():
        made.append(len(made))
        return TableEdit([CHANGE], f"attempt {made[-1]}")

    table = Table(overtaken=2)
    publish_edit(table, edit)
    assert [cause for _, cause, _ in table.published] == ["attempt 2"]


def test_it_fails_after_the_last_attempt():
    table = Table(overtaken=ATTEMPTS)
    with pytest.raises(StaleEpoch):
        publish_edit(table, lambda: TableEdit([CHANGE], "why"))
    assert table.overtaken == 0


def test_a_stale_epoch_from_the_edit_itself_counts_as_an_attempt():
    attempts = []

    def edit():
        attempts.append(1)
        raise StaleEpoch("k", 1, 2)

    with pytest.raises(StaleEpoch):
        publish_edit(Table(), edit)
    assert len(attempts) == ATTEMPTS
