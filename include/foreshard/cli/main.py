"""The ``foreshard`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from foreshard.cli.group import cli
from foreshard.errors import ForeshardError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. A Foreshard error is printed as one line on stderr, with exit code 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        cli.main(args=given, standalone_mode=True)
    except ForeshardError as error:
        print(f"foreshard: {error}", file=sys.stderr)
        sys.exit(1)
