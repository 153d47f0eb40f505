"""A mapping is proposed from the names of a log's fields, and where no name tells, from their values."""

import tomllib
from typing import Any

import pytest

from foreshard.observe.proposal import likely_columns, proposed_mapping

FIELDS: dict[str, list[Any]] = {
    "order": [str(1_760_000_000 + n) for n in range(9)],
    "when": [f"2026-03-01 08:00:{n:02}" for n in range(9)],
    "station": [f"st {n % 3}" for n in range(9)],
    "rider": [f"r{n}" for n in range(9)],
    "what": ["READ" if n % 3 else "Post" for n in range(8)] + [None],
}


def test_times_and_types_without_a_usual_name_are_known_by_their_values() -> None:
    columns = likely_columns(FIELDS)
    assert columns == {"timestamp": "when", "partitionable_key": "station", "request_type": "what"}
    proposal = proposed_mapping("csv", columns, FIELDS, ["read", "write"])
    assert proposal is not None
    assert proposal.splitlines()[1] == "# Fields that it leaves out: order, rider"
    found = tomllib.loads(proposal)
    assert (found["columns"], found["request_types"]) == (columns, {"READ": "read", "Post": "write"})


@pytest.mark.parametrize("values", [["1", "2"], [1_760_000_000], ["soon"], [None], []])
def test_numbers_and_other_texts_are_not_taken_for_times(values: list[Any]) -> None:
    assert "timestamp" not in likely_columns({"n": values})


def test_a_name_that_tells_comes_before_values() -> None:
    assert likely_columns({"first": ["2026-03-01"], "time": ["2026-03-02"]})["timestamp"] == "time"


def test_a_field_whose_name_breaks_a_line_does_not_break_the_proposal() -> None:
    fields = {**FIELDS, "a\nb = 1": ["x"]}
    proposal = proposed_mapping("csv", likely_columns(fields), fields, ["read", "write"])
    assert proposal is not None
    assert set(tomllib.loads(proposal)) == {"format", "columns", "request_types"}
