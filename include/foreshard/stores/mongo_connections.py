"""MongoDB clients: one for the control database and one per partition, each opened at its first use."""

from __future__ import annotations

import threading
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from foreshard.errors import Unreachable
from foreshard.model import Partition
from foreshard.settings import Settings

Document = dict[str, Any]

SERVER_SELECTION_MS = 5_000

LOOP = "foreshard loop"
"""The application name of Foreshard's own connections in a server's list of operations. Routed clients use another."""


def client_options(settings: Settings, name: str, server_selection_ms: int | None = None) -> dict[str, Any]:
    """Return the options of every client: aware UTC dates, majority writes, credentials from the environment."""
    credentials: dict[str, Any] = {}
    if settings.mongo_username and settings.mongo_password:
        credentials = {"username": settings.mongo_username, "password": settings.mongo_password.get_secret_value()}
    patience = SERVER_SELECTION_MS if server_selection_ms is None else server_selection_ms
    return {"tz_aware": True, "w": "majority", "serverSelectionTimeoutMS": patience, "appname": name, **credentials}


class MongoConnections:
    """One client per replica set, with ``name`` as its application name. Dates are aware UTC, writes need a majority."""

    def __init__(self, settings: Settings, name: str = "foreshard") -> None:
        self._settings, self._name = settings, name
        self._clients: dict[str, MongoClient[Document]] = {}
        self._opening = threading.Lock()

    def client(self, uri: str) -> MongoClient[Document]:
        """Return the client for ``uri``, with the credentials from the environment if the URI has none."""
        with self._opening:
            if uri not in self._clients:
                self._clients[uri] = MongoClient(uri, **client_options(self._settings, self._name))
            return self._clients[uri]

    @property
    def control(self) -> MongoClient[Document]:
        """The control database's client."""
        return self.client(self._settings.control_uri.get_secret_value())

    @property
    def control_database(self) -> Database[Document]:
        """The control database."""
        return self.control[self._settings.control_database]

    def partition(self, partition: Partition) -> MongoClient[Document]:
        """The client of one partition's replica set."""
        return self.client(partition.uri)

    def check(self, uri: str, service: str) -> None:
        """Raise :class:`Unreachable`, without credentials in it, unless ``uri`` answers a ping."""
        try:
            self.client(uri).admin.command("ping")
        except PyMongoError as error:
            nodes = ", ".join(f"{host}:{port}" for host, port in parse_uri(uri)["nodelist"])
            raise Unreachable(service, nodes, "start it or correct its address") from error

    def close(self) -> None:
        """Close every client."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
