"""Every setting is described, and docs/settings.md shows the descriptions as they are now."""

from pathlib import Path

import pytest

from foreshard.errors import ConfigurationError
from foreshard.model.key_space import KeyType
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


def test_collections_share_one_key_type_and_another_one_is_refused_in_one_line() -> None:
    orders = {"database": "shop", "collection": "orders", "key_field": "customer", "key_type": "int"}
    settings = Settings.load(collections=[orders, {**orders, "collection": "baskets"}])
    assert settings.key_type is KeyType.INT
    assert {collection.key_type for collection in settings.sharded_collections} == {KeyType.INT}
    with pytest.raises(ConfigurationError, match="key_type is int and uuid, but all collections share one routing table"):
        Settings.load(collections=[orders, {**orders, "collection": "baskets", "key_type": "uuid"}])
    assert Settings.load().key_type is KeyType.STRING
