"""Foreshard: adaptive data sharding with predictive load balancing.

These names are the public interface. They are imported on first use, so ``import foreshard`` loads none of the dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foreshard.client import AsyncRoutedClient, ClientOptions, ReadPreference, RequestScope, RoutedClient
    from foreshard.errors import (
        AmbiguousWrite,
        ConfigurationError,
        ForeshardError,
        KeyInTransit,
        RouteRefused,
        Unreachable,
        UnroutableOperation,
    )
    from foreshard.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AmbiguousWrite",
    "AsyncRoutedClient",
    "ClientOptions",
    "ConfigurationError",
    "ForeshardError",
    "KeyInTransit",
    "ReadPreference",
    "RequestScope",
    "RouteRefused",
    "RoutedClient",
    "Settings",
    "UnroutableOperation",
    "Unreachable",
    "__version__",
]

_CLIENT = ("AsyncRoutedClient", "ClientOptions", "ReadPreference", "RequestScope", "RoutedClient")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "client" if name in _CLIENT else "settings" if name == "Settings" else "errors"
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
