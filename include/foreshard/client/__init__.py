"""The app's side: a routed collection with pymongo's own verbs, which asks the sidecar and carries writes over fences."""

from foreshard.client.records import Request
from foreshard.client.routed_client import ClientOptions, RoutedClient

__all__ = ["ClientOptions", "Request", "RoutedClient"]
