"""``foreshard observe weights``: learn what an access of each request type costs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.log_place import LOG_PLACE

if TYPE_CHECKING:
    from foreshard.ports.access_logs import LogPlace
    from foreshard.settings import ObserveSettings
    from foreshard.stages.observing.weights import WeightSummary


@click.command("weights")
@click.argument("log", type=LOG_PLACE)
@click.option(
    "--mapping", type=click.Path(path_type=Path), default=None, help="TOML file that says what the log's fields mean."
)
def weights(log: LogPlace, mapping: Path | None) -> None:
    """Learn the weights of request types from the records of LOG that have a cost, such as milliseconds or documents examined.

    Nothing is changed. The last line is the setting to use.
    """
    from foreshard.stages.observing.weights import learn_weights
    from foreshard.stores.files.mapping_file import read_mapping
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        found = learn_weights(wiring, log, read_mapping(mapping) if mapping else wiring.access_log_form.mapping)
        _show(found, str(log), wiring.settings.observe)


def _show(found: WeightSummary, label: str, settings: ObserveSettings) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    click.echo(f"{label}: {found.measured:,} of {found.records:,} records have a cost")
    table = Table()
    for name in ("request type", "records", "cost, 95 %", "above the cut", "weight set", "weight learned, 95 %"):
        table.add_column(name, justify="left" if name == "request type" else "right", overflow="fold")
    for one in found.weights:
        learned = "too few records" if one.weight is None else _interval(one.weight, one.weight_error)
        cost = _interval(one.cost, one.error) if one.records else "–"
        cells = (one.request_type, f"{one.records:,}", cost, f"{100 * one.cut:.0f} %", f"{one.current:.4g}", learned)
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)
    for note in found.notes:
        click.echo(note)
    types = {
        name: {"kind": settings.request_types[name].kind.value, "weight": weight} for name, weight in found.proposal.items()
    }
    click.echo("nothing is changed; to use these weights, set them and import the history again, so that all hours have them:")
    click.echo(f"FORESHARD_OBSERVE__REQUEST_TYPES='{json.dumps(types)}'")


def _interval(value: float, error: float) -> str:
    return f"{value:.3g}" if math.isnan(error) else f"{value:.3g} ± {error:.2g}"
