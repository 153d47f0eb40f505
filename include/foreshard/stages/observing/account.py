"""Accounts for every record that a run has read."""

from __future__ import annotations

from foreshard.errors import CorruptLog


def account_of(
    what: str, read: int, tallied: int, quarantined: int, duplicates: int, outside: int = 0, refused: int = 0
) -> str:
    """Return a line that says where each of the ``read`` records went.

    Raise :class:`CorruptLog` about ``what`` if some are missing, or were counted twice.
    """
    parts = f"{tallied:,} tallied + {quarantined:,} quarantined + {duplicates:,} duplicates"
    parts += f" + {outside:,} outside these hours" if outside else ""
    parts += f" + {refused:,} in refused hours" if refused else ""
    if read != tallied + quarantined + duplicates + outside + refused:
        raise CorruptLog(what, f"{read:,} records were read, but {parts} are accounted for; read it again")
    return f"{read:,} records read = {parts}"
