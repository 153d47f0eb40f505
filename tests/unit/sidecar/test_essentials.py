"""What is remembered of the settings, and when it still counts."""

from __future__ import annotations

import json
import os

import pytest

from foreshard.cli.quick_sidecar import plain_options, settings_as
from foreshard.settings import Settings
from foreshard.sidecar.essentials import DATA_DIR, FILE, Essentials, remember, remembered


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Essentials:
    """The essentials of settings that were remembered."""
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FORESHARD_SIDECAR__ROOM_MARK", "0.7")
    monkeypatch.setenv("FORESHARD_CONTROL_URI", "mongodb://app:hunter2@control/")
    monkeypatch.setenv("FORESHARD_USER_KEY", "tell nobody")
    found = Essentials.of(Settings.load())
    remember(found)
    return found


def test_what_was_remembered_comes_back_as_it_was(kept):
    assert kept.room_mark == 0.7
    assert remembered() == kept
    assert settings_as(kept).sidecar.room_mark == 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FORESHARD_SIDECAR__ROOM_MARK", "0.6"),
        ("FORESHARD_SIDECAR__PORT", "none"),
        ("foreshard_sidecar__port", "7000"),
        ("FORESHARD_PLAN", '{"high_water": 0.9}'),
        ("FORESHARD_CONFIG", "/nowhere.toml"),
    ],
)
def test_another_environment_has_the_settings_read(kept, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert remembered() is None


def test_a_changed_configuration_file_has_the_settings_read(tmp_path, monkeypatch):
    config = tmp_path / "foreshard.toml"
    config.write_text(f'data_dir = "{tmp_path}"\n[sidecar]\nport = 7001\n')
    monkeypatch.delenv("FORESHARD_DATA_DIR", raising=False)
    monkeypatch.setenv("FORESHARD_CONFIG", str(config))
    remember(Essentials.of(Settings.load()))
    assert remembered().port == 7001
    config.write_text(f'data_dir = "{tmp_path}"\n[sidecar]\nport = 7002\n')
    os.utime(config, (1, 1))
    assert remembered() is None


def test_secrets_are_not_kept_and_may_change(kept, tmp_path, monkeypatch):
    text = (tmp_path / FILE).read_text()
    assert "hunter2" not in text
    assert "nobody" not in text
    monkeypatch.setenv("FORESHARD_USER_KEY", "another")
    assert remembered() == kept


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"mark": "x"}', b"\xff"])
def test_a_damaged_file_has_the_settings_read(kept, tmp_path, damage):
    (tmp_path / FILE).write_bytes(damage)
    assert remembered() is None


def test_a_file_of_another_release_has_the_settings_read(kept, tmp_path):
    document = json.loads((tmp_path / FILE).read_text())
    document["essentials"]["unheard_of"] = 1
    (tmp_path / FILE).write_text(json.dumps(document))
    assert remembered() is None


def test_settings_that_are_wrong_or_say_something_else_are_none(kept, monkeypatch):
    monkeypatch.setenv("FORESHARD_SIDECAR__ROOM_MARK", "0.6")
    assert settings_as(kept) is None
    monkeypatch.setenv("FORESHARD_SIDECAR__ROOM_MARK", "-1")
    assert settings_as(kept) is None


def test_a_folder_that_takes_no_file_is_no_error(kept, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FORESHARD_DATA_DIR", str(tmp_path / "file"))
    remember(Essentials.of(Settings.load()))
    assert remembered() is None


def test_the_data_lie_where_the_settings_say_by_default(monkeypatch):
    monkeypatch.delenv("FORESHARD_DATA_DIR", raising=False)
    assert Essentials.of(Settings.load()).data_dir == DATA_DIR


def test_plain_options_are_taken_and_all_others_are_left_to_the_long_way():
    assert plain_options([]) == {}
    assert plain_options(["--port", "7000", "--workers", "2"]) == {"port": 7000, "workers": 2}
    assert plain_options(["--host", "::1", "--socket", "/run/x"]) == {"host": "::1", "socket": "/run/x"}
    unusual = (
        ["--help"], ["--port"], ["--port", "x"], ["--port", "70000"], ["--workers", "0"], ["--port=1"], ["--nothing", "1"],
        ["--host", "--port"], ["--port", "1", "--port", "2"], ["7000", "--port"], ["--port", "٣"], ["--host", ""],
    )  # fmt: skip
    assert [plain_options(one) for one in unusual] == [None] * len(unusual)
