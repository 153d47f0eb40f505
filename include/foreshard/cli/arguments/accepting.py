"""The commands with which a person accepts what a gate has found wrong with an hour."""

from __future__ import annotations

from datetime import datetime
from getpass import getuser

import click

from foreshard.cli.arguments.hours import HOUR


def accept_command(gate: str, what: str, again: str) -> click.Command:
    """Return the command ``accept`` for ``gate``. ``what`` is accepted; ``again`` says how the gate is run again."""

    @click.command("accept", help=_help(what))
    @click.argument("hour", type=HOUR)
    @click.option("--because", default="", help="The reason, for those who read the gate's results later.")
    @click.option("--by", default=getuser, show_default="your login", help="Name of the person who accepts the hour.")
    def accept(hour: datetime, because: str, by: str) -> None:
        from foreshard.stages.judging.acceptance import accept_result
        from foreshard.wiring import Wiring

        with Wiring() as wiring:
            wiring.mongo.check(wiring.settings.control_uri.get_secret_value(), "control database")
            accepted = accept_result(wiring, gate, hour, by, because)
        for line in accepted.failures:
            click.echo(f"accepted: {line}")
        click.echo(f"run the gate of {hour:%Y-%m-%dT%HZ} again: {again.replace('HOUR', f'{hour:%Y-%m-%dT%H}')}")

    return accept


def _help(what: str) -> str:
    later = "The gate then passes when it runs again, until it finds something else."
    return f"Accept {what} of HOUR (UTC), although the gate failed.\n\n{later}"
