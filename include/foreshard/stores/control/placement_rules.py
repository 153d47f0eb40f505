"""Placement rules in the control database.

``placement_rules {_id: rule_id, kind: pin | residency, selector, is_prefix, partition_id, locations, note, changed_at}``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pymongo.database import Database

from foreshard.errors import UnknownRule
from foreshard.model import PlacementRule, RuleKind
from foreshard.stores.mongo_connections import Document


class MongoPlacementRules:
    """Implements :class:`foreshard.ports.rules.PlacementRuleStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._rules = database["placement_rules"]

    def rules(self) -> tuple[PlacementRule, ...]:
        return tuple(_rule(document) for document in self._rules.find().sort("_id", 1))

    def save(self, rule: PlacementRule) -> None:
        document = {
            "kind": rule.kind.value,
            "selector": rule.selector,
            "is_prefix": rule.is_prefix,
            "partition_id": rule.partition_id,
            "locations": list(rule.locations),
            "note": rule.note,
            "changed_at": datetime.now(UTC),
        }
        self._rules.replace_one({"_id": rule.rule_id}, document, upsert=True)

    def remove(self, rule_id: str) -> None:
        if not self._rules.delete_one({"_id": rule_id}).deleted_count:
            raise UnknownRule(rule_id)


def _rule(document: Document) -> PlacementRule:
    return PlacementRule(
        RuleKind(document["kind"]),
        document["selector"],
        document["is_prefix"],
        document["partition_id"],
        tuple(document["locations"]),
        document["note"],
    )
