"""``foreshard demo``: the whole loop on the sample data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from foreshard.demo.stages import DemoOptions
    from foreshard.stack.embedded import EmbeddedStack

STACK_FOLDER = Path("var/stack")
DEMO_FOLDER = Path("var/demo")


def slice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how much of the sample is used."""
    for option in (
        click.option("--riders", type=click.IntRange(1, 50), default=1, show_default=True, help="Multiply every rider."),
        click.option("--lookups", type=click.IntRange(0, 20), default=5, show_default=True, help="Reads before each ride."),
        click.option("--weeks", type=click.IntRange(1, 40), default=5, show_default=True, help="Weeks of history."),
    ):
        command = option(command)
    return command


@click.group()
def demo() -> None:
    """Run the whole loop on a real year of bike trips."""


@demo.command()
@slice_options
@click.option("--live-hours", type=click.IntRange(1, 24), default=2, show_default=True, help="Hours to play live.")
@click.option("--pace", type=click.FloatRange(1), default=240.0, show_default=True, help="Speed relative to real time.")
@click.option("--keep-going", is_flag=True, help="Leave the stack running at the end (stop it with `foreshard stack down`).")
@click.option("--folder", type=click.Path(path_type=Path), default=DEMO_FOLDER, show_default=True)
def run(folder: Path, keep_going: bool, **chosen: Any) -> None:
    """Start the stack on free ports, run the loop once, print and check the result, and stop everything."""
    from rich.console import Console

    from foreshard.demo.run import run_demo
    from foreshard.stack.ports import free_ports

    console = Console(width=None if os.isatty(1) else 150)
    options = _options(chosen)
    stack = _fresh_stack(folder, options, free_ports)
    succeeded = False
    try:
        result = run_demo(stack, options, console)
        succeeded = True
        console.print(f"\n[bold green]All checks passed[/] in {result.seconds:.0f} s.", highlight=False)
    finally:
        if not succeeded:
            click.echo(f"the logs are in {stack.folder} (Airflow's in {stack.folder / 'airflow' / 'logs'})", err=True)
        if succeeded and keep_going:
            _show_addresses(stack)
        else:
            console.print("stopping what was started …", style="dim")
            stack.down(lambda _name: None)


@demo.command()
@slice_options
@click.option("--folder", type=click.Path(path_type=Path), default=STACK_FOLDER, show_default=True)
def up(folder: Path, **chosen: Any) -> None:
    """Start the stack on its documented ports and leave it running, with the sample loaded, riders riding and the DAGs on."""
    from rich.console import Console

    from foreshard.demo.console import Steps
    from foreshard.demo.run import prepare, switch_on
    from foreshard.stack.ports import documented_ports

    console = Console(width=None if os.isatty(1) else 150)
    options = _options({**chosen, "live_hours": 0, "pace": 1.0})
    stack = _fresh_stack(folder, options, documented_ports)
    started = False
    try:
        wiring, _, _ = prepare(stack, options, Steps(console))
        wiring.close()
        stack.up_app("riders")
        switch_on(stack)
        started = True
    finally:
        if not started:
            stack.down(lambda _name: None)
    _show_addresses(stack)


@demo.command()
def ride() -> None:
    """Ride the sample's coming weeks in real time through the routed client (a process of `foreshard demo up`)."""
    from foreshard.demo.run import ride as ride_on

    ride_on()


def _options(chosen: dict[str, Any]) -> DemoOptions:
    from foreshard.demo.stages import DemoOptions

    return DemoOptions(**chosen)


def _fresh_stack(folder: Path, options: DemoOptions, ports: Callable[[int], Any]) -> EmbeddedStack:
    """Return a stack in an empty folder. An earlier stack there is stopped and its data is deleted."""
    from foreshard.demo.demo_layout import PARTITION_LOCATIONS
    from foreshard.demo.run import make_stack
    from foreshard.stack.embedded import load_stack, project_root

    if (folder / "stack.json").exists():
        load_stack(folder.resolve(), project_root()).down(lambda _name: None)
        shutil.rmtree(folder)
    return make_stack(folder, ports(1 + len(PARTITION_LOCATIONS)), options)


def _show_addresses(stack: EmbeddedStack) -> None:
    from foreshard.stack.airflow import USER

    click.echo(f"Airflow UI   {stack.airflow.url}   login {USER} / {stack.secrets['password']}")
    click.echo(f"sidecar      {stack.sidecar_url}/v1/route/KEY?op=read&from=San%20Francisco")
    click.echo(f"metrics      {stack.sidecar_url}/metrics and {stack.exporter_url}")
    click.echo(f'settings     eval "$(.venv/bin/foreshard stack env --folder {stack.folder})"')
    click.echo("stop it      make down")
