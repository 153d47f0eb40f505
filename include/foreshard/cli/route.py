"""``foreshard route``: ask the sidecar where a key lives, and explain the decision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from foreshard.routing.config import SidecarConfig

PATIENCE_SECONDS = 1.0


@click.command()
@click.argument("key")
@click.option("--op", type=click.Choice(["read", "write"]), default="read", show_default=True)
@click.option("--from", "location", help="Where the access comes from (a registered location).")
@click.option("--max-staleness-ms", type=click.FloatRange(min=0), help="How far behind a shadow may be.")
@click.option("--url", help="The sidecar's address (default: from the settings).")
@click.option("--json", "as_json", is_flag=True, help="Print the sidecar's answer as JSON.")
def route(key: str, op: str, location: str | None, max_staleness_ms: float | None, url: str | None, as_json: bool) -> None:
    """Show which copy of KEY serves an access, and why."""
    from rich.console import Console

    query = {"op": op, "from": location, "max_staleness_ms": max_staleness_ms, "explain": "1"}
    given = {name: str(value) for name, value in query.items() if value is not None}
    config = _config()
    answer = ask_sidecar(url or config.url, key, given, config.token, config.tls_authority)
    if as_json:
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    why = why_listed(key) if answer["listed"] else ""
    for number, step in enumerate(steps(answer, op, why), 1):
        console.print(f"{number}. {step}", markup=False, soft_wrap=True)
    if answer["considered"]:
        console.print(copies_table(answer["considered"]))


def ask_sidecar(
    url: str, key: str, query: Mapping[str, str], token: str | None = None, authority: Path | None = None
) -> dict[str, Any]:
    """Ask a sidecar for one route, with its token if it has one. Raise :class:`Unreachable` or :class:`RouteRefused`.

    ``authority``: what checks the certificate of an https address.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.parse import quote, urlencode
    from urllib.request import Request, urlopen

    from foreshard.client.routing.sidecar_routes import checking_context
    from foreshard.errors import RouteRefused, Unreachable

    try:
        quoted = quote(key, safe="")
    except UnicodeEncodeError:
        raise RouteRefused(key, 400, "the key contains half of a surrogate pair") from None
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = Request(f"{url.rstrip('/')}/v1/route/{quoted}?{urlencode(query)}", headers=headers)  # noqa: S310 - the user's
        context = checking_context(authority) if url.startswith("https:") else None
        with urlopen(request, timeout=5, context=context) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
    except HTTPError as error:
        raise RouteRefused(key, error.code, _detail(error.read())) from None
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable("sidecar", url, "start it (foreshard sidecar), or give its address with --url") from error
    return answer


def _detail(body: bytes) -> str:
    """The detail of a problem document."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


def why_listed(key: str) -> str:
    """Why the control database lists the key; "" without a reason, or if it does not answer within ``PATIENCE_SECONDS``."""
    import pymongo

    from foreshard.wiring import Wiring

    try:
        with Wiring() as wiring, pymongo.timeout(PATIENCE_SECONDS):
            return wiring.routing.why_listed(key)
    except pymongo.errors.PyMongoError:
        return ""


def steps(answer: Mapping[str, Any], op: str, why: str) -> list[str]:
    """The steps of the decision, as sentences. ``why``: the reason for which the key is listed, if it is known."""
    epoch, version = answer["epoch"], answer["table_version"]
    by = "listed" if answer["listed"] else f"slot {answer['slot']}"
    because = f", because {why.replace('_', ' ')}" if why else ""
    primary = next((c["partition"] for c in answer["considered"] if c["role"] == "primary"), answer["partition"])
    shadows = [c["partition"] for c in answer["considered"] if c["role"] == "shadow"]
    copies = f"primary copy on {primary}" + (f", shadows on {', '.join(shadows)}" if shadows else ", no shadows")
    found = [f"table version {version}: {answer['key']!r}: {by} → {primary}{because} (epoch {epoch})", copies]
    if op == "write":
        found.append("a write goes to the primary copy, regardless of its load")
    elif shadows:
        found.append(
            "a read goes to the nearest copy that is fresh enough and has room; an overloaded copy passes some of its reads on "
            "to the copy with the lowest cost (round trip and time at the server)"
        )
    found.append(f"{answer['reason']} [{answer['reason_code']}]")
    place = f"{answer['partition']} ({answer['role']}, {answer['location']})"
    return [*found, f"send the {op} to {place} at {answer['uri']}"]


def copies_table(considered: list[dict[str, Any]]) -> Table:
    """The copies that were considered, each with its verdict."""
    from rich.table import Table

    table = Table("copy", "role")
    for name in ("km", "round trip (ms)", "behind (s)", "load", "given", "reads (ms)", "cost (ms)"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for copy in considered:
        load = "unknown" if copy["utilisation"] is None else f"{copy['utilisation']:.0%}"
        behind = "unknown" if copy["staleness_s"] is None else f"{copy['staleness_s']:.1f}"
        far = "unknown" if copy["km"] is None else f"{copy['km']:.0f}"
        load = load if copy["reachable"] else "no answer"
        trip = "unknown" if copy["round_trip_ms"] is None else f"{copy['round_trip_ms']:.2f}"
        trip += " measured" if copy["measured"] else ""
        latency = "unknown" if copy["latency_ms"] is None else f"{copy['latency_ms']:.2f}"
        figures = (far, trip, behind, load, f"{copy['admission']:.0%}", latency, f"{copy['cost_ms']:.2f}")
        table.add_row(copy["partition"], copy["role"], *figures, copy["verdict"])
    return table


def _config() -> SidecarConfig:
    from foreshard.routing.config import SidecarConfig
    from foreshard.settings import Settings

    return SidecarConfig.from_settings(Settings.load())
