"""Positions of records become text only where they are shown."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from foreshard.observe.batches import plain_frame, rows_of
from foreshard.observe.positions import with_positions


def test_chosen_records_keep_their_positions() -> None:
    table = with_positions(pa.table({"cost": [1.0, 2.0, 3.0]}), "a b.jsonl", np.array([7, 9, 2**40]))
    assert plain_frame(table)["source"].tolist() == ["a b.jsonl:7", "a b.jsonl:9", f"a b.jsonl:{2**40}"]
    chosen = rows_of(table, np.array([False, True, True]))
    assert isinstance(chosen, pa.Table)
    assert plain_frame(chosen.take(pa.array([1])))["source"].tolist() == [f"a b.jsonl:{2**40}"]


def test_records_of_several_files_keep_the_names_of_their_files() -> None:
    parts = [with_positions(pa.table({"cost": [1.0]}), name, [3]) for name in ("a", "é:1")]
    assert plain_frame(pa.concat_tables(parts))["source"].tolist() == ["a:3", "é:1:3"]


def test_positions_that_are_texts_and_a_field_that_is_called_source_stay_as_they_are() -> None:
    kafka = pa.table({"source": ["topic:0:12"]})
    assert plain_frame(kafka)["source"].tolist() == ["topic:0:12"]
    nested = pa.table({"source": [{"file": "x", "place": 1}]})
    assert plain_frame(nested)["source"].tolist() == [{"file": "x", "place": 1}]
