"""JSON lines are read in blocks of whole lines, wherever a read ends."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from foreshard.stores.files import log_formats
from foreshard.stores.files.access_log import read_batches


@pytest.mark.parametrize("read", [1, 7, 64, 1000])
@pytest.mark.parametrize("block", [1, 100, 5000])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_no_line_is_cut_and_each_has_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int, block: int, end: str
) -> None:
    monkeypatch.setattr(log_formats, "READ_BYTES", read)
    monkeypatch.setattr(log_formats, "BLOCK_BYTES", block)
    keys = ["x" * (number % 5 * 40) + str(number) for number in range(60)]  # some are longer than a read and a block
    lines = [json.dumps({"timestamp": 1772352000, "partitionable_key": key, "request_type": "read"}) for key in keys]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + end)
    found = pd.concat(list(read_batches(path)), ignore_index=True)
    assert found["partitionable_key"].tolist() == keys
    assert found["source"].tolist() == [f"a.jsonl:{number}" for number in range(1, 61)]
