"""The slots and keys that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from foreshard.wiring import Wiring


class SlotRange(click.ParamType[tuple[int, ...]]):
    """A slot, or the first and last of several: ``811`` or ``0-127``."""

    name = "N[-N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the slots."""
        first, dash, last = str(value).partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            self.fail(f"{value!r} is neither a slot nor a range of slots", param, ctx)
        return tuple(range(int(first), int(last or first) + 1))


SLOTS = SlotRange()


def units_of_arguments(wiring: Wiring, keys: tuple[str, ...], ranges: tuple[tuple[int, ...], ...]) -> list[str]:
    """Return the units, each once. Raise ``UsageError`` if one is impossible."""
    from foreshard.model.key_space import slot_unit

    slots = [slot for some in ranges for slot in some]
    count = wiring.routing.space().slots
    if slots and max(slots) >= count:
        raise click.UsageError(f"there is no slot {max(slots)}: slots are 0 to {count - 1}")
    if not keys and not slots:
        raise click.UsageError("name at least one KEY or --slot")
    return list(dict.fromkeys([*keys, *map(slot_unit, slots)]))
