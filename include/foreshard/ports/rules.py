"""The store of placement rules."""

from __future__ import annotations

from typing import Protocol

from foreshard.model import PlacementRule


class PlacementRuleStore(Protocol):
    """Placement rules (``placement_rules``): at most one of each kind per selector."""

    def rules(self) -> tuple[PlacementRule, ...]:
        """Return every rule, sorted by id."""

    def save(self, rule: PlacementRule) -> None:
        """Save the rule. It replaces a rule of the same kind and selector."""

    def remove(self, rule_id: str) -> None:
        """Delete a rule. Raise :class:`foreshard.errors.UnknownRule` if it does not exist."""
