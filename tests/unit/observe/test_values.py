"""Columns as text."""

import numpy as np
import pandas as pd
import pytest

from foreshard.observe.values import as_text


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int8", "Int64"])
def test_integers_are_text_as_they_would_be_one_by_one(dtype):
    column = pd.Series([7, 0, 7, 100], dtype=dtype, name="session_id")
    found, one_by_one = as_text(column), as_text(column.astype(object))
    assert found.values.tolist() == one_by_one.values.tolist() == ["7", "0", "7", "100"]
    assert found.given.tolist() == one_by_one.given.tolist() == [True] * 4
    assert found.values.name == "session_id"


def test_missing_integers_are_not_given():
    found = as_text(pd.Series([3, None, -2], dtype="Int64"))
    assert found.values.tolist() == ["3", None, "-2"]
    assert found.given.tolist() == [True, False, True]


def test_integers_that_are_too_long_are_unreadable():
    found = as_text(pd.Series([12, 12345]), maximum_bytes=3)
    assert found.values.tolist() == ["12", None]
    assert found.given.tolist() == [True, True]


def test_no_integers_are_no_text():
    assert as_text(pd.Series(np.zeros(0, np.int64))).values.tolist() == []
