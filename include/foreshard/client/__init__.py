"""The app's side: routed collections with pymongo's own verbs, synchronous and asynchronous, that carry writes over fences."""

from foreshard.client._records import RequestScope
from foreshard.client._routed_client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.client._router_settings import build_router
from foreshard.client._routes import Operation, ReadPreference, Route, Router

__all__ = [
    "AsyncRoutedClient",
    "ClientOptions",
    "Operation",
    "RequestScope",
    "Route",
    "RoutedClient",
    "Router",
    "ReadPreference",
    "build_router",
]
