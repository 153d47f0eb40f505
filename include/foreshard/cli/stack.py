"""``foreshard stack``: the embedded stack on this machine."""

from __future__ import annotations

from pathlib import Path

import click

STACK_FOLDER = Path("var/stack")

folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), default=STACK_FOLDER, show_default=True, help="Folder of the stack."
)


@click.group()
def stack() -> None:
    """Fetch, show and stop the embedded stack (`foreshard demo up` starts it)."""


@stack.command()
def fetch() -> None:
    """Fetch Kafka's jars, so that starting the stack needs no network."""
    from foreshard.stack.kafka import fetch_jars
    from foreshard.stack.mongod import mongod_binary

    mongod_binary()
    fetch_jars()


@stack.command()
@folder_option
def status(folder: Path) -> None:
    """Show each process of the stack, its id and its address."""
    from rich.console import Console
    from rich.table import Table

    from foreshard.stack.embedded import load_stack, project_root

    table = Table("process", "pid", "address")
    for name, pid, address in load_stack(folder.resolve(), project_root()).status():
        table.add_row(name, str(pid) if pid else "[red]not running", address)
    Console().print(table)


@stack.command()
@folder_option
def down(folder: Path) -> None:
    """Stop every process that the stack in this folder started, and only those."""
    from foreshard.stack.embedded import load_stack, project_root

    stopped = load_stack(folder.resolve(), project_root()).down(lambda name: click.echo(f"stopped {name}"))
    click.echo(f"{stopped} processes stopped; data and logs stay in {folder}")


@stack.command()
@folder_option
def env(folder: Path) -> None:
    """Print the settings of the stack as shell exports, including its secrets: use `eval "$(foreshard stack env)"`."""
    import shlex

    from foreshard.stack.embedded import load_stack, project_root

    for name, value in load_stack(folder.resolve(), project_root()).environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
