"""Every setting is described, and docs/settings.md shows the descriptions as they are now."""

from pathlib import Path

import pytest

from foreshard.settings import CollectionSetting, RequestTypeSetting, Settings
from foreshard.settings.reference import leaf_settings, settings_reference

DOCS = Path(__file__).parents[2] / "docs"


def test_docs_settings_md_is_up_to_date() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_reference(), "run `make docs`"


def test_every_setting_has_a_description() -> None:
    inner = [(kind.__name__, field) for kind in (CollectionSetting, RequestTypeSetting) for field in kind.model_fields.values()]
    assert [name for name, field in (*leaf_settings(), *inner) if not field.description] == []


def test_a_request_type_of_the_environment_is_added_to_the_default_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESHARD_OBSERVE__REQUEST_TYPES", '{"checkout": {"kind": "write", "weight": 3}}')
    types = Settings.load().observe.request_types
    assert list(types) == ["read", "write", "insert", "update", "delete", "scan", "checkout"]
    assert types["checkout"].weight == 3.0
