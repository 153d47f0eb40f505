"""The key argument of the commands."""

from __future__ import annotations

import click


class KeyArgument(click.ParamType[str]):
    """A partitionable key as text, of the type that the settings give to the collections' keys."""

    name = "key"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Return the key's canonical text. Raise :class:`foreshard.errors.InvalidKey`."""
        from foreshard.routing.keys import parsed_key
        from foreshard.settings import Settings

        return parsed_key(str(value), Settings.load().key_type)


KEY = KeyArgument()
