"""Texts as dictionaries: each distinct text once, and only those that a record has."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.observe.coded_text import CODED_TEXT, coded_text, codes, filled, without

TEXTS = st.lists(st.none() | st.sampled_from(["", "a", "b", "a\0b", "東京", "5"]), max_size=20)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[str | None], pa.ChunkedArray]:
    """Texts, as a column of plain or coded chunks, some with texts that no record has, or twice the same one."""
    coded, chunks = draw(st.booleans()), draw(st.lists(TEXTS, min_size=1, max_size=3))
    made = []
    for texts in chunks:
        array = pa.array(texts, pa.string())
        if coded:
            array = array.dictionary_encode().cast(CODED_TEXT)
            more = pa.concat_arrays([array.dictionary, pa.array(["unused", "a"], pa.string())])
            array = pa.DictionaryArray.from_arrays(array.indices, more)
        made.append(array)
    return [text for texts in chunks for text in texts], pa.chunked_array(made)


@given(columns())
def test_coded_texts_are_the_same_texts_each_once_and_used(given: tuple[list[str | None], pa.ChunkedArray]) -> None:
    texts, column = given
    coded = coded_text(column)
    assert coded.type == CODED_TEXT
    assert coded.to_pylist() == texts
    assert sorted(coded.dictionary.to_pylist()) == sorted({text for text in texts if text is not None})
    assert [None if code < 0 else coded.dictionary[int(code)].as_py() for code in codes(coded)] == texts
    assert without(coded, "a").to_pylist() == [None if text == "a" else text for text in texts]
    assert filled(coded, "b").to_pylist() == ["b" if text is None else text for text in texts]


def test_whole_numbers_are_coded_as_texts() -> None:
    assert coded_text(pa.array([2**62 + 1, None, 5, 5])).to_pylist() == [str(2**62 + 1), None, "5", "5"]


def test_texts_that_are_not_utf8_are_refused() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"], pa.binary()).buffers())
    with pytest.raises(pa.ArrowInvalid):
        coded_text(broken)
