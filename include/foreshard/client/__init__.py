"""The client library: routed collections with pymongo's verbs, synchronous and asynchronous."""

from foreshard.client._records import RequestScope
from foreshard.client._routed_client import AsyncRoutedClient, ClientOptions, RoutedClient
from foreshard.client.routing.build import build_router
from foreshard.client.routing.router import Router
from foreshard.client.routing.routes import Operation, ReadPreference, Route

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
