"""``foreshard forecast``: run the forecast stage without Airflow, and forecast or backtest log files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foreshard.cli.arguments.accepting import accept_command
from foreshard.cli.arguments.hours import HOUR
from foreshard.cli.progress import bars

if TYPE_CHECKING:
    from foreshard.stages.experiments.backtest import BacktestSummary
    from foreshard.stages.experiments.forecast_log import FitLogSummary, StepProgress


@click.group()
def forecast() -> None:
    """Forecast the load of each key."""


forecast.add_command(accept_command("forecasts", "the forecasts", "clear `gate` in Airflow, or foreshard forecast hour HOUR"))


@forecast.command("hour")
@click.argument("hour", type=HOUR)
@click.option("--gate/--no-gate", default=True, help="Check the forecasts with their gate.")
def forecast_hour(hour: datetime, gate: bool) -> None:
    """Forecast every key for the hours after HOUR (UTC). HOUR must be counted."""
    from foreshard.stages.forecast import fit_chunk, gate_forecasts, prepare_chunks
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        chunks = prepare_chunks(wiring, hour)
        models: dict[str, int] = {}
        with _progress("forecasting, chunks") as report:
            for done, chunk in enumerate(chunks, 1):
                for name, count in fit_chunk(wiring, hour, chunk).models.items():
                    models[name] = models.get(name, 0) + count
                report(done, len(chunks))
        for warning in gate_forecasts(wiring, hour).warnings if gate else ():
            click.echo(f"warning: {warning}")
    click.echo(f"forecasts for {hour:%Y-%m-%dT%H}Z: {_counts(models)}")


@forecast.command("accuracy")
@click.argument("hour", type=HOUR)
def forecast_accuracy(hour: datetime) -> None:
    """Score the forecast whose horizon ends with HOUR (UTC), and save its accuracy."""
    from foreshard.stages.accuracy import measure_accuracy
    from foreshard.wiring import Wiring

    with Wiring() as wiring:
        summary = measure_accuracy(wiring, hour)
    if not summary.models:
        click.echo(f"there is no forecast for {summary.made_for:%Y-%m-%dT%H}Z, or its hours were not all counted")
    for model, figures in summary.models.items():
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
        click.echo(f"{model}: {shown}")


@forecast.command("fit")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--engine", default=None, help="Forecast engine; default: the setting.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write (.parquet or .csv)."
)
@click.option("--hour", default=None, type=HOUR, help="Last hour of the history (UTC); default: the log's last.")
@click.option("--history-days", default=None, type=click.IntRange(1, 730))
@click.option("--horizon", default=None, type=click.IntRange(1, 168), help="Hours to forecast.")
@click.option("--processes", default=None, type=click.IntRange(1), help="Processes; default: one per processor.")
def fit(
    log: Path,
    engine: str | None,
    output: Path,
    hour: datetime | None,
    history_days: int | None,
    horizon: int | None,
    processes: int | None,
) -> None:
    """Forecast every key of LOG (Parquet, CSV or JSON Lines with the standard columns). No database is needed."""
    from foreshard.settings import Settings
    from foreshard.stages.experiments.forecast_log import fit_log
    from foreshard.wiring import Wiring

    changes = {"engine": engine, "history_days": history_days, "horizon_hours": horizon}
    settings = Settings.load()
    chosen = settings.forecast.model_copy(update={name: value for name, value in changes.items() if value is not None})
    with Wiring(settings.model_copy(update={"forecast": chosen})) as wiring, _progress("forecasting, keys") as report:
        summary = fit_log(wiring, log, output, hour, report, processes)
    _say_what_was_odd(summary.left_out, summary.assumed)
    _print_fit(summary)


@forecast.command("backtest")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--horizon", default=24, show_default=True, type=click.IntRange(1, 168), help="Hours to forecast.")
@click.option("--history-days", default=28, show_default=True, type=click.IntRange(1, 730))
@click.option("--origins", default=14, show_default=True, type=click.IntRange(1), help="Origins, spread evenly over the log.")
@click.option("--partitions", default=None, type=click.IntRange(1), help="Number of partitions, by hash; default: by location.")
@click.option("--engine", default=None, help="Engine shown as `foreshard`; default: the setting.")
@click.option("--prophet-fits", default=400, show_default=True, type=click.IntRange(0), help="Most runs of Prophet.fit.")
@click.option(
    "--peer-fits",
    default=24,
    show_default=True,
    type=click.IntRange(0),
    help="Most fits of each statsforecast method (AutoETS, MSTL).",
)
@click.option("--json", "output", default=None, type=click.Path(path_type=Path, dir_okay=False), help="File for the figures.")
def backtest(
    log: Path,
    horizon: int,
    history_days: int,
    origins: int,
    partitions: int | None,
    engine: str | None,
    prophet_fits: int,
    peer_fits: int,
    output: Path | None,
) -> None:
    """Backtest forecasts of LOG from many origins, by key and by partition, against simpler methods."""
    import json

    from foreshard.settings import Settings
    from foreshard.stages.experiments.backtest import BacktestOptions, backtest_log
    from foreshard.wiring import Wiring

    settings = Settings.load()
    changes: dict[str, object] = {
        "horizon_hours": horizon,
        "history_days": history_days,
        "engine": engine or settings.forecast.engine,
    }
    settings = settings.model_copy(update={"forecast": settings.forecast.model_copy(update=changes)})
    options = BacktestOptions(origins, partitions, prophet_fits, peer_fits)
    with Wiring(settings) as wiring, _progress("backtesting, origins") as report:
        summary = backtest_log(wiring, log, options, report)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({"levels": summary.levels, "about": summary.about}, indent=2) + "\n")
    _say_what_was_odd(summary.about["left_out"], summary.about["assumed_cost_1"])
    _print_backtest(summary)


def _say_what_was_odd(left_out: Mapping[str, int], assumed: Mapping[str, int]) -> None:
    for reason, count in left_out.items():
        click.echo(f"left out {count} records: {reason}", err=True)
    for name, count in assumed.items():
        click.echo(f"{count} records of the request type {name!r} count as cost 1, because it has no weight", err=True)


def _print_fit(summary: FitLogSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "keys", title=f"forecasts of {summary.keys} keys after {summary.hour:%Y-%m-%dT%H}Z")
    for name, count in sorted(summary.models.items()):
        table.add_row(name, str(count))
    Console().print(table)
    click.echo(f"forecast {summary.keys} keys after {summary.hour:%Y-%m-%dT%H}Z into {summary.output}")


def _print_backtest(summary: BacktestSummary) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    figures = ("wape", "mase", "pinball", "coverage", "bias", "seconds")
    for level, methods in summary.levels.items():
        table = Table(Column("method", no_wrap=True), *figures, title=f"{summary.about['log']}: {level} level")
        for name, values in sorted(methods.items(), key=lambda item: item[1]["wape"] or 0.0):
            shown = ["–" if values[figure] is None else f"{values[figure]:.4g}" for figure in figures]
            table.add_row(name, *shown)
        Console(width=max(Console().width, 110)).print(table)


def _counts(models: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(models.items())) or "no keys"


@contextmanager
def _progress(what: str) -> Iterator[StepProgress]:
    """Show a progress bar on stderr. Yield the function that updates it with (done, total)."""
    from rich.console import Console

    with bars(console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
