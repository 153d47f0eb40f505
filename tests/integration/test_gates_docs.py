"""Data Docs of the gates, as files."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from tests.slots import slot_map

from foreshard.model import GateResult, Partition, RoutingTable
from foreshard.quality.gates import check_access_log, check_table
from foreshard.settings import ObserveSettings
from foreshard.stores.files import data_docs
from foreshard.stores.files.data_docs import DataDocsFolder

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)


def ask_about_a_table(folder: Path, hour: datetime = HOUR, last_version: int = 7) -> GateResult:
    table = RoutingTable(7, {}, slot_map(("p1",), (1.0,)), hour)
    return check_table(table, [Partition("p1", "x", 1.0)], hour, last_version=last_version, docs=DataDocsFolder(folder))


def ask_about_a_log(folder: Path, request_type: str = "read") -> GateResult:
    frame = pd.DataFrame({"timestamp": [pd.Timestamp(HOUR)], "partitionable_key": ["a"], "request_type": [request_type]})
    return check_access_log(frame, HOUR, quarantined=0, limits=ObserveSettings(), docs=DataDocsFolder(folder))


def test_each_gate_gets_pages_and_an_index_that_links_them(tmp_path: Path) -> None:
    assert ask_about_a_log(tmp_path).passed
    assert not ask_about_a_table(tmp_path, last_version=8).passed
    index = (tmp_path / "index.html").read_text()
    pages = sorted(tmp_path.glob("validations/*/*/2014-11-20/08/result.html"))
    assert [page.parts[-5:-3] for page in pages] == [
        ("access_log", "hour"),
        ("access_log", "records"),
        ("table", "changes"),
        ("table", "epochs"),
        ("table", "placements"),
        ("table", "slots"),
        ("table", "table"),
    ]
    for page in pages:
        assert page.relative_to(tmp_path).as_posix() in index
        facts = json.loads(page.with_suffix(".json").read_text())
        assert facts["success"] == (page.parts[-5:-3] != ("table", "table"))
    assert not list(tmp_path.rglob("*.part"))


def test_pages_load_nothing_from_anywhere(tmp_path: Path) -> None:
    ask_about_a_log(tmp_path, "explode")
    ask_about_a_table(tmp_path, last_version=8)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == 8
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"""(?:src|href|action|poster|data)\s*=\s*["']([^"']*)|url\(([^)]*)\)|@import\s+([^;]+)""", text)
        named = {name for names in loaded for name in names if name}
        assert not re.search(r"(?:https?:)?//[a-z]", text)
        assert "<script" not in text
        assert named
        for name in named - {"data:,"}:
            assert (page.parent / name).resolve().is_relative_to(tmp_path)
            assert (page.parent / name).exists()
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".html", ".json"}


def test_a_page_says_what_was_expected_and_found(tmp_path: Path) -> None:
    ask_about_a_log(tmp_path, "explode")
    text = (tmp_path / "validations/access_log/records/2014-11-20/08/result.html").read_text()
    assert "every request_type is known" in text
    assert "1 of 1 records have an unknown request type (&#x27;explode&#x27;)" in text
    assert text.count('class="mark stops"') == 1
    assert text.count('class="mark passed"') == 4


def test_what_the_log_says_cannot_script_the_page(tmp_path: Path) -> None:
    result = ask_about_a_log(tmp_path, "<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in result.failures[0]
    text = (tmp_path / "validations/access_log/records/2014-11-20/08/result.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_asking_again_replaces_the_page_and_old_days_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_docs, "KEPT_DAYS", 2)
    for day in (0, 1, 2, 2):
        ask_about_a_table(tmp_path, HOUR + timedelta(days=day))
    pages = sorted(tmp_path.glob("validations/table/table/*/*/result.html"))
    assert [page.parts[-3] for page in pages] == ["2014-11-21", "2014-11-22"]
    assert "2014-11-20" not in (tmp_path / "index.html").read_text()
