"""The expectations of the gate ``plan``: an hour's plan, before any document moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import Partition, PartitionState, Plan
from foreshard.model.key_space import slot_number, unit_label
from foreshard.quality._suite import Expectation, Suite, between, figure, final, known, of_values, unique, warns
from foreshard.settings import PlanSettings

_ROUNDING = 1e-6


SCORE_TOLERANCE = 0.1
"""The plan's LPS before may differ from the saved score by this share, or by this much: the table may have changed since."""


def suites(
    plan: Plan, partitions: Sequence[Partition], limits: PlanSettings, rules: PlacementRules, scored: Mapping[str, float]
) -> tuple[Suite, ...]:
    """Return the suites ``moves``, ``shadows``, ``removals``, ``partitions`` (LPS after the plan) and ``plan`` (limits), and
    ``judgement``, which warns.
    """
    names = tuple(partition.partition_id for partition in partitions)
    active = tuple(p.partition_id for p in partitions if p.state is PartitionState.ACTIVE)
    moved = _violations(rules, partitions, [(unit, m.target) for m in plan.moves for unit in m.units], shadow=False)
    shadowed = _violations(rules, partitions, [(s.key, s.target) for s in plan.shadows], shadow=True)
    made = (
        _moves(plan, names, active, moved),
        _shadows(plan, names, active, shadowed),
        _removals(plan, names),
        _partitions(plan, names, limits),
        _totals(plan, limits),
    )
    judged = [*_relief(plan, limits), *_scores(plan, scored)]
    return (*(final(suite) for suite in made), *((of_values("judgement", judged),) if judged else ()))


def _relief(plan: Plan, limits: PlanSettings) -> Iterator[tuple[float, Expectation]]:
    """Warn if the plan moves something, but not off the worst partition, and does not say why not."""
    worst = max(plan.lps_before, key=lambda name: plan.lps_before[name], default="")
    before, after = plan.lps_before.get(worst, 0.0), plan.lps_after.get(worst, 0.0)
    explained = worst in {refusal.partition_id for refusal in plan.refusals}
    if before > limits.high_water and (plan.moves or plan.shadows) and not explained:
        steps = f"{len(plan.moves)} moves and {len(plan.shadows)} shadows"
        line = f"{steps}, but the worst partition {worst} stays at LPS {figure(after)} ({figure(before)} before)"
        fall = before - after
        yield fall, warns(between("fall_of_the_worst_lps", _ROUNDING, None, "the worst partition is relieved", line))


def _scores(plan: Plan, scored: Mapping[str, float]) -> Iterator[tuple[float, Expectation]]:
    """Warn for each partition whose LPS the plan does not start from.

    A plan counts moves and shadows that are under way as done, and a score does not, so their partitions are left out.
    """
    for place, (name, score) in enumerate(sorted(scored.items())):
        if name in plan.unsettled:
            continue
        before = plan.lps_before.get(name, score)
        off = abs(before - score) - SCORE_TOLERANCE * max(score, 1.0)
        line = f"the plan starts from LPS {figure(before)} of {name}, but the hour's score is {figure(score)}; plan again"
        yield off, warns(between(f"off_the_score_{place}", None, 0, f"the plan starts from {name}'s score", line))


def _violations(
    rules: PlacementRules, partitions: Sequence[Partition], copies: Sequence[tuple[str, str]], *, shadow: bool
) -> list[str | None]:
    """For each (unit, target), the claim of the rule that forbids a copy there; None if it is allowed."""
    places = {partition.partition_id: partition for partition in partitions}
    broken = [rules.broken(unit, places[to], shadow=shadow) if to in places else None for unit, to in copies]
    return [
        None if rule is None else f"{unit_label(unit)} {rule.claim}" for (unit, _), rule in zip(copies, broken, strict=True)
    ]


def _keeps_rules(violations: Sequence[str | None], what: str) -> Expectation:
    shown = "; ".join([claim for claim in violations if claim][:3])
    failure = f"{{bad}} of {{all}} {what}s break a placement rule ({shown})"
    return between("against_a_rule", 0, 0, f"no {what} breaks a placement rule", failure)


def _moves(plan: Plan, names: tuple[str, ...], active: tuple[str, ...], violations: Sequence[str | None]) -> Suite:
    moved = [(m, unit) for m in plan.moves for unit in m.units]
    frame = pd.DataFrame(
        [
            (_shown(unit), m.source, m.target, int(m.source == m.target), m.estimated_bytes, int(claim is not None))
            for (m, unit), claim in zip(moved, violations, strict=True)
        ],
        columns=["unit", "source", "target", "stays", "estimated_bytes", "against_a_rule"],
    )
    return Suite(
        "moves",
        frame,
        (
            unique("unit", "{bad} of {all} moves are of a key that is moved more than once ({examples})"),
            known("source", names, "{bad} of {all} moves leave an unknown partition ({examples})"),
            known("target", active, "{bad} of {all} moves go to an unknown or draining partition ({examples})"),
            between("stays", 0, 0, "no move ends where it starts", "{bad} of {all} moves have the same source and target"),
            between(
                "estimated_bytes", 0, None, "no size is negative", "{bad} of {all} moves have a negative size ({examples})"
            ),
            _keeps_rules(violations, "move"),
        ),
    )


def _shown(unit: str) -> str:
    """Return a key as it is, so that the gate quotes it once, and a slot by its number."""
    return unit if slot_number(unit) is None else unit_label(unit)


def _shadows(plan: Plan, names: tuple[str, ...], active: tuple[str, ...], violations: Sequence[str | None]) -> Suite:
    landing = {unit: move.target for move in plan.moves for unit in move.units}
    frame = pd.DataFrame(
        [
            (s.key, s.source, s.target, int(s.target in (s.source, landing.get(s.key))), int(claim is not None))
            for s, claim in zip(plan.shadows, violations, strict=True)
        ],
        columns=["key", "source", "target", "beside_its_primary", "against_a_rule"],
    )
    twice = "{bad} of {all} shadows are planned twice on the same partition"
    return Suite(
        "shadows",
        frame,
        (
            Expectation(
                "ExpectCompoundColumnsToBeUnique", {"column_list": ["key", "target"]}, "no shadow is planned twice", twice
            ),
            known("source", names, "{bad} of {all} shadows copy from an unknown partition ({examples})"),
            known("target", active, "{bad} of {all} shadows go to an unknown or draining partition ({examples})"),
            between(
                "beside_its_primary",
                0,
                0,
                "no shadow is on its primary copy's partition",
                "{bad} of {all} shadows are on their primary copy's partition",
            ),
            _keeps_rules(violations, "shadow"),
        ),
    )


def _removals(plan: Plan, names: tuple[str, ...]) -> Suite:
    planned = {(shadow.key, shadow.target) for shadow in plan.shadows}
    frame = pd.DataFrame(
        [(s.key, s.target, int((s.key, s.target) in planned)) for s in plan.removals],
        columns=["key", "target", "planned_as_well"],
    )
    return Suite(
        "removals",
        frame,
        (
            known("target", names, "{bad} of {all} removed shadows are on an unknown partition ({examples})"),
            between(
                "planned_as_well",
                0,
                0,
                "no shadow is both made and removed",
                "{bad} of {all} removed shadows are also made by this plan",
            ),
        ),
    )


def _partitions(plan: Plan, names: tuple[str, ...], limits: PlanSettings) -> Suite:
    targets = {move.target for move in plan.moves} | {shadow.target for shadow in plan.shadows}
    sources = [move.source for move in plan.moves] + [s.source for s in plan.shadows if s.reason.code == "hot_key"]
    relieved = max((plan.lps_before.get(source, 0.0) for source in sources), default=0.0)
    rows = []
    for name in sorted(targets | set(plan.lps_before) | set(plan.lps_after)):
        before, after = plan.lps_before.get(name), plan.lps_after.get(name)
        scored = before is not None and after is not None
        allowed = max(limits.high_water, before or 0.0, relieved) + _ROUNDING
        rows.append((name, int(scored), max(0.0, (after or 0.0) - allowed) if name in targets else 0.0))
    frame = pd.DataFrame(rows, columns=["partition_id", "scored", "lps_above_what_a_target_may_have"])
    frame = frame.astype({"scored": "float64", "lps_above_what_a_target_may_have": "float64"})
    over = [name for name, _, excess in rows if excess > 0]
    shown = ", ".join(f"{name} {figure(plan.lps_after[name])}" for name in over[:5])
    return Suite(
        "partitions",
        frame,
        (
            known("partition_id", names, "the plan scores {bad} unknown partitions ({examples})"),
            between(
                "scored", 1, 1, "each has an LPS before and after", "{bad} of {all} partitions have no LPS before or after"
            ),
            between(
                "lps_above_what_a_target_may_have",
                0,
                0,
                "no target ends above the high-water mark, its own LPS before, and the LPS of the relieved partitions",
                f"{{bad}} targets end above the high-water mark {figure(limits.high_water)} and worse than before ({shown})",
            ),
        ),
    )


def _totals(plan: Plan, limits: PlanSettings) -> Suite:
    size = sum(move.estimated_bytes for move in plan.moves)
    before, after = max(plan.lps_before.values(), default=0.0), max(plan.lps_after.values(), default=0.0)
    rows = (
        ("moves", len(plan.moves), limits.maximum_moves, f"{len(plan.moves)} moves > {limits.maximum_moves}"),
        ("shadows", len(plan.shadows), limits.maximum_shadows, f"{len(plan.shadows)} shadows > {limits.maximum_shadows}"),
        ("bytes", size, limits.maximum_bytes, f"{size:,} bytes to move > {limits.maximum_bytes:,}"),
        (
            "worst_lps",
            after,
            max(before, limits.high_water) + _ROUNDING,
            f"worst LPS after {figure(after)} > {figure(before)} before",
        ),
    )
    claims = {
        "moves": "no more moves than the limit",
        "shadows": "no more shadows than the limit",
        "bytes": "no more bytes than the limit",
        "worst_lps": "the worst LPS is no higher after than before, or below the high-water mark",
    }
    frame = pd.DataFrame({name: [float(value)] for name, value, _, _ in rows})
    return Suite(
        "plan", frame, tuple(between(name, 0, float(limit), claims[name], failure) for name, _, limit, failure in rows)
    )
