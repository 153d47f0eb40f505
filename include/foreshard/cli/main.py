"""The ``foreshard`` command. A restart of the sidecar takes the short way past everything else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from foreshard.cli import quick_sidecar
from foreshard.errors import ForeshardError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error of ours is one line on stderr and exit code 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["sidecar"] and quick_sidecar.started(given[1:]):
            return
        from foreshard.cli.group import cli

        cli.main(args=given, standalone_mode=True)
    except ForeshardError as error:
        print(f"foreshard: {error}", file=sys.stderr)
        sys.exit(1)
