"""Several columns of whole numbers as one: the same groups, and the same columns again."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.observe.packing import Packing, Span, nullable

NAMES = ("a", "b", "c")


@st.composite
def columns(draw: st.DrawFn) -> tuple[pl.DataFrame, dict[str, Span | None]]:
    rows = draw(st.integers(1, 30))
    frame: dict[str, Any] = {}
    spans: dict[str, Span | None] = {}
    for name in NAMES:
        low = draw(st.sampled_from([0, -7, 10**6, -(2**40)]))
        size = draw(st.sampled_from([1, 2, 50, 2**30]))
        numbers = st.integers(low, low + size - 1)
        gaps = draw(st.booleans())
        frame[name] = draw(st.lists(numbers | st.none() if gaps else numbers, min_size=rows, max_size=rows))
        span = Span(low, low + size - 1)
        spans[name] = nullable(span) if gaps else span
    return pl.DataFrame(frame, schema=dict.fromkeys(NAMES, pl.Int64)), spans


@given(columns())
def test_what_was_packed_is_unpacked_and_has_the_same_groups(given: tuple[pl.DataFrame, dict[str, Span | None]]) -> None:
    frame, spans = given
    packing = Packing.of(spans, "one")
    packed = packing.packed(nw.from_native(frame.lazy()))
    counted = packing.unpacked(packed.group_by(*packing.by).agg(nw.len().alias("rows"))).to_native().collect()
    plain = frame.group_by(NAMES).agg(pl.len().alias("rows"))
    assert counted.select(*NAMES, "rows").sort(NAMES).equals(plain.sort(NAMES))
    assert all(packed.select(x=packing.part(name)).to_native().collect()["x"].equals(frame[name]) for name in NAMES)


@pytest.mark.parametrize("spans", [{"a": Span(0, 2**40), "b": Span(0, 2**40)}, {"a": Span(0, 5), "b": None}])
def test_columns_stay_as_they_are_if_they_do_not_fit_or_are_not_known(spans: dict[str, Span | None]) -> None:
    packing = Packing.of(spans, "one")
    frame = nw.from_native(pl.LazyFrame({"a": [1, 2], "b": [2**40, 0]}))
    assert packing.by == ["a", "b"]
    assert packing.packed(frame) is frame
    assert packing.unpacked(frame) is frame
    assert Packing.of({**packing.inner(), "c": Span(0, 1)}, "two").by == ["a", "b", "c"]


def test_adding_one_to_a_packed_number_adds_one_to_its_last_column() -> None:
    packing = Packing.of({"a": Span(0, 9, nw.Int32()), "unit": Span(100, 200)}, "one")
    packed = packing.packed(nw.from_native(pl.LazyFrame({"a": [3], "unit": [107]}, schema={"a": pl.Int32, "unit": pl.Int64})))
    later = packing.unpacked(packed.with_columns(nw.col("one") + 1)).to_native().collect()
    assert later.rows() == [(3, 108)]
    assert later.schema["a"] == pl.Int32


def test_a_packing_inside_a_packing_gives_all_columns_again() -> None:
    inner = Packing.of({"a": Span(0, 9), "b": Span(-5, 5)}, "inner")
    outer = Packing.of({**inner.inner(), "c": Span(0, 3)}, "outer")
    frame = pl.LazyFrame({"a": [1, 9], "b": [-5, 5], "c": [0, 3]})
    packed = outer.packed(inner.packed(nw.from_native(frame)))
    assert packed.collect_schema().names() == ["outer"]
    assert inner.unpacked(outer.unpacked(packed)).select("a", "b", "c").to_native().collect().equals(frame.collect())
