"""``foreshard rules``: set placement rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.key_argument import KEY

if TYPE_CHECKING:
    from foreshard.model import PlacementRule
    from foreshard.stages.rules import RuleEffect
    from foreshard.wiring import Wiring

PREFIX = click.option("--prefix", is_flag=True, help="SELECTOR is a prefix; '' selects all keys.")
NOTE = click.option("--note", default="", help="Note that is saved with the rule.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the rule's effect, and save nothing.")


@click.group()
def rules() -> None:
    """Set which partitions or locations keys must stay in. Plans, moves and shadows obey the rules.

    A pin keeps a key's primary copy on a partition. Residency keeps all copies of a key in some locations. The most specific
    rule of each kind applies: the one for the key itself, else the one with the longest prefix. The next plan moves keys that
    break a rule.
    """


@rules.command("list")
def list_() -> None:
    """Print every rule, the number of listed keys it applies to, and the number of copies that break it."""
    from foreshard.stages.rules import list_rules

    with _wiring() as wiring:
        found = list_rules(wiring)
    for effect in found:
        note = f"  # {effect.rule.note}" if effect.rule.note else ""
        click.echo(f"{_sentence(effect)}{note}")
    if not found:
        click.echo("no placement rules")


@rules.command()
@click.argument("selector")
@click.argument("partition", required=False)
@PREFIX
@NOTE
@DRY_RUN
def pin(selector: str, partition: str | None, prefix: bool, note: str, dry_run: bool) -> None:
    """Keep the primary copy of SELECTOR on PARTITION; without PARTITION, on its current one."""
    from foreshard.model import PlacementRule, RuleKind

    _set(PlacementRule(RuleKind.PIN, _selector(selector, prefix), prefix, partition, note=note), dry_run)


@rules.command()
@click.argument("selector")
@click.argument("locations", nargs=-1, required=True)
@PREFIX
@NOTE
@DRY_RUN
def reside(selector: str, locations: tuple[str, ...], prefix: bool, note: str, dry_run: bool) -> None:
    """Keep all copies of SELECTOR in LOCATIONS."""
    from foreshard.model import PlacementRule, RuleKind

    _set(
        PlacementRule(RuleKind.RESIDENCY, _selector(selector, prefix), prefix, None, tuple(dict.fromkeys(locations)), note),
        dry_run,
    )


@rules.command()
@click.argument("selector")
@PREFIX
def unpin(selector: str, prefix: bool) -> None:
    """Delete the pin of SELECTOR."""
    from foreshard.model import PlacementRule, RuleKind

    _remove(PlacementRule(RuleKind.PIN, _selector(selector, prefix), prefix))


@rules.command()
@click.argument("selector")
@PREFIX
def release(selector: str, prefix: bool) -> None:
    """Delete the residency of SELECTOR."""
    from foreshard.model import PlacementRule, RuleKind

    _remove(PlacementRule(RuleKind.RESIDENCY, _selector(selector, prefix), prefix))


@rules.command()
@click.argument("key", type=KEY)
@click.argument("partition", required=False)
def check(key: str, partition: str | None) -> None:
    """Print where KEY is, where it may be, and its rules. With PARTITION, exit with 1 if KEY may not be there."""
    from foreshard.stages.rules import bounds_of, require_allowed

    with _wiring() as wiring:
        found = bounds_of(wiring, key)
        click.echo(f"{key!r} is on {found.primary}")
        for rule in found.rules:
            click.echo(f"  it {rule.claim} ({rule.rule_id})")
        click.echo(f"  its primary copy may be on: {', '.join(found.primary_may_be_on) or 'no active partition'}")
        click.echo(f"  its shadows may be on: {', '.join(found.shadows_may_be_on) or 'no active partition'}")
        if partition is not None:
            require_allowed(wiring, [key], partition)


def _selector(selector: str, prefix: bool) -> str:
    return selector if prefix else str(KEY.convert(selector, None, None))


def _set(rule: PlacementRule, dry_run: bool) -> None:
    from foreshard.stages.rules import set_rule

    with _wiring() as wiring:
        effect = set_rule(wiring, rule, dry_run)
    click.echo(f"{'dry run, nothing saved: ' if dry_run else ''}{_sentence(effect)}")
    if effect.primaries_elsewhere and not dry_run:
        click.echo("the next plan moves the keys that break it, within the limits of one hour")


def _remove(rule: PlacementRule) -> None:
    from foreshard.stages.rules import remove_rule

    with _wiring() as wiring:
        remove_rule(wiring, rule)
    click.echo(f"{rule.rule_id} is removed")


def _sentence(effect: RuleEffect) -> str:
    rule = effect.rule
    who = f"every key that begins with {rule.selector!r}" if rule.is_prefix else repr(rule.selector)
    against = f", {effect.primaries_elsewhere:,} are elsewhere" if effect.primaries_elsewhere else ""
    against += f", {effect.shadows_elsewhere:,} shadows are elsewhere" if effect.shadows_elsewhere else ""
    return f"{who} {rule.claim} ({effect.keys:,} listed {'key' if effect.keys == 1 else 'keys'}{against})"


@contextmanager
def _wiring() -> Iterator[Wiring]:
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
        yield wiring
