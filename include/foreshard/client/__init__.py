"""The client library: routed collections with pymongo's verbs, synchronous and asynchronous."""

from foreshard.client._records import RequestScope
from foreshard.client._routed_client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.client._router import Router, build_router
from foreshard.client._routes import Operation, ReadPreference, Route

__all__ = [
    "AsyncRoutedClient",
    "ClientOptions",
    "Operation",
    "ReadPreference",
    "RequestScope",
    "Route",
    "RoutedClient",
    "Router",
    "build_router",
]
