"""Write ``docs/settings.md`` from the settings' descriptions: ``python -m foreshard.settings.reference > docs/settings.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from foreshard.settings._observe import RequestTypeSetting
from foreshard.settings._section import SettingsSection
from foreshard.settings._tree import CollectionSetting, Settings

INTRODUCTION = """# Settings

<!-- Written by `make docs` from include/foreshard/settings/. Edit the descriptions there. -->

Foreshard reads its settings from environment variables and from the TOML file that `FORESHARD_CONFIG` names; the environment
overrides the file. In the file, sections are tables: `FORESHARD_PLAN__HIGH_WATER=0.75` is `high_water = 0.75` under `[plan]`.
Durations are ISO 8601 (`PT30S`, `P14D`). Lists and tables in the environment are JSON. An invalid value, or an unknown name in
a section, is an error at start-up. Set secrets through the environment only.
"""


def settings_reference() -> str:
    """Return the text of ``docs/settings.md``: a table per section with each environment variable, its default and meaning."""
    parts = [INTRODUCTION, _table("General", "", Settings.model_fields)]
    parts.append(_fields("A collection", CollectionSetting))
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is not None:
            about = (section.__doc__ or "").strip().replace("\n    ", "\n")
            parts.append(_table(f"`[{name}]`", f"{name}__", section.model_fields, about))
        if name == "observe":
            parts.append(_fields("A request type", RequestTypeSetting))
    return "\n".join(parts)


def leaf_settings() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting with the name of its environment variable."""
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is None:
            yield f"FORESHARD_{name.upper()}", field
        else:
            yield from ((f"FORESHARD_{name}__{inner}".upper(), found) for inner, found in section.model_fields.items())


def _section(field: FieldInfo) -> type[SettingsSection] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, SettingsSection) else None


def _table(title: str, prefix: str, fields: dict[str, FieldInfo], about: str = "") -> str:
    lines = [f"## {title}", ""]
    if about:
        lines += [about, ""]
    lines += ["| environment variable | default | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        if _section(field) is None:
            lines.append(f"| `FORESHARD_{(prefix + name).upper()}` | {_default(field)} | {field.description} |")
    return "\n".join([*lines, ""])


def _fields(title: str, kind: type[BaseModel]) -> str:
    lines = [f"### {title}", "", "| field | default | meaning |", "|---|---|---|"]
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else _default(field)
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    if isinstance(value, timedelta):
        return f"`{TypeAdapter(timedelta).dump_python(value, mode='json')}`"
    if isinstance(value, dict | tuple):
        return f"`{json.dumps(_plain(value))}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


if __name__ == "__main__":
    print(settings_reference(), end="")
