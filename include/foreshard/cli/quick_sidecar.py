"""The short way to ``foreshard sidecar``: a restart with plain options and remembered settings, without what it can do without.

Where anything is unusual, the long way (:mod:`foreshard.cli.sidecar`) looks at it and says what is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foreshard.settings import Settings
    from foreshard.sidecar.essentials import Essentials

NUMBERS = {"port": range(65536), "workers": range(1, 65)}
TEXTS = {"host", "socket"}
LONG_WAY = "_FORESHARD_LONG_WAY"
"""Set in the environment where the short way was wrong, so that it is not tried again."""

Options = dict[str, str | int]


def started(arguments: Sequence[str]) -> bool:
    """Serve until stopped, and return True; False where the long way is needed, and nothing has been done."""
    options = plain_options(arguments)
    if options is None or LONG_WAY in os.environ:
        return False
    from foreshard.sidecar.essentials import remembered

    kept = remembered()
    if kept is None:
        return False
    from foreshard.sidecar.serve import serve

    log_to_stderr()
    if serve(kept.with_options(options), lambda: settings_as(kept)):
        _start_anew()
    return True


def plain_options(arguments: Sequence[str]) -> Options | None:
    """The options, None where there is anything but pairs of a known name and a value that will do."""
    if len(arguments) % 2:
        return None
    found: Options = {}
    for given, value in zip(arguments[::2], arguments[1::2], strict=True):
        name = given.removeprefix("--")
        if not given.startswith("--") or name in found or not value or value.startswith("-"):
            return None
        if name in NUMBERS and value.isascii() and value.isdigit() and int(value) in NUMBERS[name]:
            found[name] = int(value)
        elif name in TEXTS:
            found[name] = value
        else:
            return None
    return found


def settings_as(kept: Essentials) -> Settings | None:
    """The settings; None where they are wrong, or not what was kept of them."""
    from foreshard.errors import ForeshardError
    from foreshard.settings import Settings

    try:
        settings = Settings.load()
    except ForeshardError:
        return None
    return settings if type(kept).of(settings) == kept else None


def log_to_stderr() -> None:
    """Log like a service."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _start_anew() -> None:
    """Become the same command again, by the long way."""
    import signal

    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.environ[LONG_WAY] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command
