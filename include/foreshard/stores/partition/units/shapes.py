"""What a target's collection lacks to be like the source's, and differences that can't be settled (pure).

A collection's shape is ``{options, indexes}``: the app's own validator is among the options, and the fence is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ShapeOfOne = Mapping[str, Any]
RULES = {"validator": {}, "validationLevel": "strict", "validationAction": "error"}
"""Options of the app's own validator, and their defaults."""
FIXED_OPTIONS = ("clusteredIndex", "encryptedFields", "expireAfterSeconds")
"""Options that say which documents a collection may hold, and that can't be changed (or delete documents)."""
IMAGES = "changeStreamPreAndPostImages"
SAME_ANYWAY = frozenset({"name", "v", "ns", "background", "hidden", "textIndexVersion", "2dsphereIndexVersion"})
"""Fields of an index that do not change which documents it accepts or finds."""


def missing_indexes(wanted: ShapeOfOne, there: ShapeOfOne) -> list[Mapping[str, Any]]:
    """Return the indexes that the target lacks."""
    known = {_definition(index) for index in there["indexes"]}
    return [index for index in wanted["indexes"] if _definition(index) not in known]


def conflicts(wanted: ShapeOfOne, there: ShapeOfOne) -> Iterator[str]:
    """Yield the differences that can't be settled by adding to the target, as predicates of its collection."""
    for name in FIXED_OPTIONS:
        if wanted["options"].get(name) != there["options"].get(name):
            yield f"has another {name} than the source's"
    rules = rules_of(there)
    if rules["validator"] and rules != rules_of(wanted):
        yield "has another validator than the source's"
    named = {index["name"]: index for index in wanted["indexes"]}
    definitions = {_definition(index) for index in wanted["indexes"]}
    for index in there["indexes"]:
        if index["name"] in named and _definition(index) != _definition(named[index["name"]]):
            yield f"has another index {index['name']!r} than the source's"
        elif _definition(index) not in definitions and "unique" in index:
            yield f"has a unique index {index['name']!r} that the source lacks"
        elif _definition(index) not in definitions and "expireAfterSeconds" in index:
            yield f"has a TTL index {index['name']!r} that the source lacks"


def rules_of(one: ShapeOfOne) -> dict[str, Any]:
    """Return the app's own validator, its level and its action."""
    options = one["options"]
    return {name: options.get(name, default) for name, default in RULES.items()} if options.get("validator") else dict(RULES)


def _definition(index: Mapping[str, Any]) -> str:
    """Return an index without its name. The order of its keys counts, that of its options does not."""
    options = {name: value for name, value in index.items() if name not in SAME_ANYWAY and name != "key" and value is not False}
    return repr((list(index["key"].items()), sorted(options.items(), key=lambda option: option[0])))
