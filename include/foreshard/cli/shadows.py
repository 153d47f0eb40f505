"""``foreshard shadows``: list, add, repair and remove shadows, and resolve conflicts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from foreshard.cli.arguments.key_argument import KEY
from foreshard.ports.replication import Shadow
from foreshard.wiring import Wiring


@click.group()
def shadows() -> None:
    """List, add, repair and remove shadows, and resolve conflicts."""


@shadows.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Include retired shadows.")
def list_shadows(everything: bool) -> None:
    """Print every shadow with its state and its lag."""
    from foreshard.model.shadow_state import ShadowState

    with Wiring() as wiring:
        found = [s for s in wiring.shadows.shadows() if everything or s.state is not ShadowState.RETIRED]
    for shadow in found:
        click.echo(
            f"{shadow.shadow_id}\t{shadow.state}\t{shadow.source} → {shadow.target}\t{_freshness(shadow)}\t{shadow.reason}"
        )
    if not found:
        click.echo("no shadows")


@shadows.command()
@click.argument("key", type=KEY)
@click.argument("target")
def show(key: str, target: str) -> None:
    """Print one shadow with its history."""
    from foreshard.model.decided import shadow_id

    with Wiring() as wiring:
        shadow = wiring.shadows.get(shadow_id(key, target))
        history = wiring.shadows.history(shadow.shadow_id)
    click.echo(f"{shadow.shadow_id}: {shadow.state}, {_freshness(shadow)}")
    click.echo(f"  primary on {shadow.source} (epoch {shadow.epoch}), shadow on {shadow.target}")
    click.echo(f"  reason: {shadow.reason}")
    if shadow.problem:
        click.echo(f"  problem: {shadow.problem}")
    for entry in history:
        click.echo(f"  {entry['at']:%Y-%m-%d %H:%M:%S} {entry['state']}{': ' + entry['problem'] if entry['problem'] else ''}")


@shadows.command()
@click.argument("key", type=KEY)
@click.argument("target")
@click.option("--no-publish", is_flag=True, help="Let the hour's publication list it in the routing table.")
def add(key: str, target: str, no_publish: bool) -> None:
    """Make a shadow of KEY on the partition TARGET, wait until it has caught up, and publish it."""
    from foreshard.stages.shadow import request_shadow, run_shadow
    from foreshard.stages.shadow_listing import publish_shadow

    with Wiring() as wiring:
        shadow = request_shadow(wiring, key, target, None, "requested by a person")
        done = run_shadow(wiring, shadow.shadow_id)
        click.echo(f"{done.shadow_id} is ready after {done.seconds:.1f} s")
        if not no_publish:
            version = publish_shadow(wiring, done.shadow_id)
            click.echo(f"published in table version {version}")


@shadows.command()
@click.argument("key", type=KEY)
@click.argument("target")
def remove(key: str, target: str) -> None:
    """Remove the shadow of KEY on TARGET: from the table now, its documents after the grace period."""
    from foreshard.stages.shadow_listing import remove_shadow, retire_shadows

    with Wiring() as wiring:
        shadow = remove_shadow(wiring, key, target)
        for _ in range(2):  # the first leaves the table; the second deletes, if no sidecar is waited for
            done = retire_shadows(wiring)
        waits = shadow.shadow_id in done.waiting
    state = "removed from the table; the next upkeep deletes its documents once the sidecars have followed" if waits else "gone"
    click.echo(f"{shadow.shadow_id}: {state}")


@shadows.command()
@click.argument("key", type=KEY)
@click.argument("target")
@click.option("--check", is_flag=True, help="Only compare.")
def repair(key: str, target: str, check: bool) -> None:
    """Compare a shadow with its primary copy, document by document, and copy again what differs."""
    from foreshard.model.decided import shadow_id
    from foreshard.stages.shadow_repair import repair_shadow

    with Wiring() as wiring:
        done = repair_shadow(wiring, shadow_id(key, target), write=not check)
    click.echo(f"{done.shadow_id}: {done.different} documents differ, {done.repaired} repaired")


@shadows.group()
def conflicts() -> None:
    """List and resolve conflicts between concurrent versions."""


@conflicts.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
def list_conflicts(limit: int) -> None:
    """Print the open conflicts, oldest first, each with the version kept beside the shown one."""
    with Wiring() as wiring:
        found = wiring.conflicts.open(limit)
    for conflict in found:
        kept = "a delete" if conflict.kept.deleted else _json(conflict.kept.body or b"")
        when = f"{conflict.detected_at:%Y-%m-%d %H:%M:%S}"
        click.echo(
            f"{conflict.conflict_id}\t{when}\t{conflict.namespace} {conflict.document_id!r}\t{conflict.policy}\tkept: {kept}"
        )
    if not found:
        click.echo("no open conflicts")


@conflicts.command()
@click.argument("conflict_id")
@click.option("--with", "choice", type=click.Choice(["shown", "kept"]), default=None, help="Version to keep.")
@click.option("--document", default=None, help="Merged document to keep, as MongoDB extended JSON.")
def resolve(conflict_id: str, choice: str | None, document: str | None) -> None:
    """Choose the document to keep. It is written at the primary copy and replaces all concurrent versions."""
    from foreshard.stages.conflicts import resolve_with_document, resolve_with_kept, resolve_with_shown

    if (choice is None) == (document is None):
        raise click.UsageError("give either --with shown|kept or --document JSON")
    with Wiring() as wiring:
        if document is not None:
            resolve_with_document(wiring, conflict_id, _parse(document))
        elif choice == "kept":
            resolve_with_kept(wiring, conflict_id)
        else:
            resolve_with_shown(wiring, conflict_id)
    click.echo(f"{conflict_id} is resolved")


def _freshness(shadow: Shadow) -> str:
    if shadow.caught_up_at is None:
        return "not caught up"
    behind = (datetime.now(UTC) - shadow.caught_up_at).total_seconds()
    return f"at most {behind:.1f} s behind"


def _json(body: bytes) -> str:
    import bson
    from bson.json_util import dumps

    return str(dumps(bson.decode(body)))


def _parse(document: str) -> dict[str, Any]:
    from bson.errors import BSONError
    from bson.json_util import loads

    try:
        parsed = loads(document)
    except (ValueError, BSONError, TypeError) as error:
        raise click.BadParameter(f"not extended JSON: {error}", param_hint="--document") from error
    if not isinstance(parsed, dict):
        raise click.BadParameter("not a JSON object", param_hint="--document")
    return parsed
