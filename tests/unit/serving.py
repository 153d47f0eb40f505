"""Serving rules for tests."""

from foreshard.measure.demand import ServingRule


def serving_rule(**changes):
    """A rule with a room mark of 0.8 and an apply cost of 1, except for ``changes``."""
    return ServingRule(**{"room_mark": 0.8, "apply_cost": 1.0, **changes})
