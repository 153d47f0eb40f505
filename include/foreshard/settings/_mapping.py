"""The mapping of a source whose records don't have the standard columns: which field is what, and what its values mean.

A field is named by its column, by a group of the pattern, or by its path in a JSON record (``attr.command.filter.station``).
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from foreshard.model import READ_COLUMNS
from foreshard.settings._section import SettingsSection

MONGODB_OPERATION = "operation"
"""The kind of those records of MongoDB that can be counted."""
_HOLE = re.compile(r"\{(\w+)\}")
COMBINED = (
    r'(?P<address>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+)[^"]*"'
    r" (?P<status>\d{3}) (?P<bytes>\S+)"
    r'(?: "(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)")?(?: (?P<more>.*))?'
)
"""The lines of Apache's and nginx' logs in the formats ``common`` and ``combined``. ``more`` is what a site appends to them."""
COMBINED_TIME = "%d/%b/%Y:%H:%M:%S %z"


class SourceMapping(SettingsSection):
    """What the fields of a source mean. Read it from a TOML file."""

    format: Literal["json", "csv", "parquet", "combined", "mongodb", "pattern"] | None = None
    pattern: str | None = None
    time_format: str | None = None
    columns: dict[str, tuple[str, ...]]
    keys: dict[str, str] = Field(default_factory=dict)
    request_types: dict[str, str] = Field(default_factory=dict)
    locations: dict[str, str] = Field(default_factory=dict)
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("columns", "only", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (
            {name: (value,) if isinstance(value, str) else value for name, value in given.items()}
            if isinstance(given, dict)
            else given
        )

    @model_validator(mode="after")
    def _usable(self) -> SourceMapping:
        if unknown := sorted(set(self.columns) - set(READ_COLUMNS)):
            raise ValueError(f"columns.{unknown[0]} is no column; the columns are {', '.join(READ_COLUMNS)}")
        if missing := [name for name in ("timestamp", "partitionable_key", "request_type") if name not in self.columns]:
            raise ValueError(f"columns.{missing[0]} is missing; name the field that has it")
        if (self.format == "pattern") != (self.pattern is not None):
            raise ValueError('`pattern` and `format = "pattern"` need each other')
        groups = self.line.groupindex if self.line is not None else None
        if groups is not None and (absent := self.fields - set(groups)):
            raise ValueError(f"the pattern has no group {sorted(absent)[0]!r}; it has {', '.join(groups)}")
        for template, key in self.keys.items():
            if len(set(_HOLE.findall(template))) < len(_HOLE.findall(template)):
                raise ValueError(f"keys.{template!r} has a part of one name twice")
            if strange := set(_HOLE.findall(key)) - set(_HOLE.findall(template)):
                raise ValueError(f"keys.{template!r} has no {{{sorted(strange)[0]}}}")
        return self

    @cached_property
    def fields(self) -> frozenset[str]:
        """The fields that are read."""
        return frozenset(field for fields in self.columns.values() for field in fields) | frozenset(self.needed)

    @property
    def needed(self) -> dict[str, tuple[str, ...]]:
        """The values that a record must have to be counted, by field."""
        return {"kind": (MONGODB_OPERATION,), **self.only} if self.format == "mongodb" else self.only

    @cached_property
    def line(self) -> re.Pattern[str] | None:
        """The pattern of a line; None if the format has columns or fields."""
        text = COMBINED if self.format == "combined" else self.pattern
        try:
            return re.compile(text) if text is not None else None
        except re.error as error:
            raise ValueError(f"the pattern is no regular expression ({error})") from None

    @property
    def times(self) -> str | None:
        """The form of the times; None: ISO 8601, or numbers since 1970."""
        return self.time_format or (COMBINED_TIME if self.format == "combined" else None)
