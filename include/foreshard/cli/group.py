"""The ``foreshard`` command group. Each subcommand is in a file of its own and is imported when it is called."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "applier": "foreshard.cli.applier:applier",
    "demo": "foreshard.cli.demo:demo",
    "exporter": "foreshard.cli.exporter:exporter",
    "forecast": "foreshard.cli.forecast:forecast",
    "keys": "foreshard.cli.keys:keys",
    "load": "foreshard.cli.load:load",
    "moves": "foreshard.cli.moves:moves",
    "observe": "foreshard.cli.observe:observe",
    "partitions": "foreshard.cli.partitions:partitions",
    "plan": "foreshard.cli.plan:plan",
    "replay": "foreshard.cli.replay:replay",
    "route": "foreshard.cli.route:route",
    "rules": "foreshard.cli.rules:rules",
    "run": "foreshard.cli.run:run",
    "shadows": "foreshard.cli.shadows:shadows",
    "sidecar": "foreshard.cli.sidecar:sidecar",
    "stack": "foreshard.cli.stack:stack",
    "table": "foreshard.cli.table:table",
    "verify": "foreshard.cli.verify:verify",
}
"""Subcommand → ``module:object``."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for, so that ``--help`` and the sidecar start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand's name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="foreshard")
def cli() -> None:
    """Move and copy data before the load arrives."""
