"""Where operators say what must stay where."""

from __future__ import annotations

from typing import Protocol

from foreshard.model import PlacementRule


class PlacementRuleStore(Protocol):
    """Placement rules (``placement_rules``), one of each kind per selector."""

    def rules(self) -> tuple[PlacementRule, ...]:
        """Every rule, by id."""

    def save(self, rule: PlacementRule) -> None:
        """Add the rule, in place of one of the same kind and selector."""

    def remove(self, rule_id: str) -> None:
        """Forget a rule; raise :class:`foreshard.errors.UnknownRule`."""
