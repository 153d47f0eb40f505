"""How a fence and an app's own rules share one collection validator (pure).

With fenced keys the validator is ``{$and: [{key_field: {$nin: keys}}, {$comment: marker}, app's validator]}`` at level
``strict`` and action ``error``. The marker contains the fence document's revision and the app's own level and action, so the
collection alone says what was there before. Rules that the app does not enforce (action ``warn``, level ``off``) are kept in
the marker and are inactive while keys are fenced. Without fenced keys the app's rules are alone again. Level ``moderate`` is
refused, because it accepts an update of a document that is already invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foreshard.errors import FenceRefused

STRICT, ERROR = "strict", "error"


@dataclass(frozen=True, slots=True)
class AppRules:
    """The validator that the app itself has set, with its level and action."""

    validator: Mapping[str, Any] | None = None
    level: str = STRICT
    action: str = ERROR

    @property
    def enforced(self) -> bool:
        """Whether the server refuses what breaks these rules."""
        return bool(self.validator) and self.level == STRICT and self.action == ERROR


@dataclass(frozen=True, slots=True)
class FenceInForce:
    """What a collection's options say: the fenced keys, the revision that set them, and the app's own rules."""

    keys: frozenset[str]
    revision: int
    rules: AppRules


def read_options(options: Mapping[str, Any], key_field: str) -> FenceInForce:
    """Take a collection's options apart; ``keys`` is empty unless the server really enforces our clause."""
    validator = options.get("validator") or None
    level, action = options.get("validationLevel", STRICT), options.get("validationAction", ERROR)
    marker = _marker(validator)
    if validator is None or marker is None:
        return FenceInForce(frozenset(), 0, AppRules(validator, level, action))
    clauses = validator["$and"]
    kept = marker.get("validator") or (clauses[2] if len(clauses) > 2 else None)
    rules = AppRules(kept, marker["level"], marker["action"])
    in_force = level == STRICT and action == ERROR
    keys = frozenset(clauses[0].get(key_field, {}).get("$nin", ())) if in_force else frozenset()
    return FenceInForce(keys, int(marker["revision"]), rules)


def compose(namespace: str, key_field: str, keys: Iterable[str], revision: int, rules: AppRules) -> dict[str, Any]:
    """The ``collMod`` arguments that fence ``keys`` and keep the app's rules; raise :class:`FenceRefused` for ``moderate``."""
    fenced = sorted(keys)
    if not fenced:
        return {"validator": rules.validator or {}, "validationLevel": rules.level, "validationAction": rules.action}
    if rules.validator and rules.level == "moderate":
        raise FenceRefused(
            namespace,
            "its own validator has level moderate, which lets writes past a fence",
            "set its validationLevel to strict",
        )
    marker = {
        "revision": revision,
        "level": rules.level,
        "action": rules.action,
        "validator": None if rules.enforced else rules.validator,
    }
    clauses: list[Any] = [{key_field: {"$nin": fenced}}, {"$comment": {"foreshard": marker}}]
    if rules.enforced:
        clauses.append(rules.validator)
    return {"validator": {"$and": clauses}, "validationLevel": STRICT, "validationAction": ERROR}


def _marker(validator: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    clauses = (validator or {}).get("$and")
    if not isinstance(clauses, list) or len(clauses) < 2 or not isinstance(clauses[1], Mapping):
        return None
    comment = clauses[1].get("$comment")
    marker = comment.get("foreshard") if isinstance(comment, Mapping) else None
    return marker if isinstance(marker, Mapping) else None
