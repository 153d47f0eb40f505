"""Lost answers and unreachable partitions: no write is repeated, and the app gets a precise error."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pymongo.errors import BulkWriteError

from foreshard.client import ClientOptions
from foreshard.errors import AmbiguousWrite, Unreachable
from foreshard.stack._process import free_port


class CuttingProxy:
    """Forwards bytes to a mongod. Once ``cut`` is set, forwards each request and closes before the answer."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.cut = target, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.open += [client, server]
                for source, sink, answers in ((client, server, False), (server, client, True)):
                    self.threads.append(threading.Thread(target=self.pump, args=(source, sink, answers), daemon=True))
                    self.threads[-1].start()

    def pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.cut.is_set():
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for end in self.open:
            end.close()


@pytest.fixture
def proxy(partition_clients, answerer) -> Iterator[CuttingProxy]:
    """Partition alpha behind a proxy that can drop answers."""
    made = CuttingProxy(partition_clients["alpha"].address)
    answerer.uris["alpha"] = f"mongodb://127.0.0.1:{made.port}/?directConnection=true"
    yield made
    made.close()


def test_a_write_whose_answer_was_lost_is_reported_as_ambiguous_and_not_repeated(make_things, stand, answerer, proxy) -> None:
    things = make_things()
    answerer.place("k", "alpha")
    things.insert_one({"_id": 1, "station": "k", "n": 0})
    proxy.cut.set()
    with pytest.raises(AmbiguousWrite) as lost:
        things.update_one({"station": "k"}, {"$inc": {"n": 1}})
    assert "\n" not in str(lost.value)
    assert (lost.value.keys, lost.value.partition_id, lost.value.operation) == (("k",), "alpha", "update_one")
    assert stand["alpha"].find_one()["n"] == 1


def test_a_write_that_was_never_sent_because_its_collection_could_not_be_examined_is_not_in_doubt(
    make_things, stand, answerer, proxy
) -> None:
    stand["alpha"].insert_one({"_id": 1, "station": "k", "n": 0})
    answerer.place("k", "alpha")
    proxy.cut.set()
    things = make_things(ClientOptions(deadline=0.5))
    for act in (
        lambda: things.update_one({"station": "k"}, {"$inc": {"n": 1}}),
        lambda: things.insert_many([{"station": "k"}]),
    ):
        with pytest.raises(Unreachable):
            act()
    assert list(stand["alpha"].find()) == [{"_id": 1, "station": "k", "n": 0}]


def test_a_bulk_write_whose_answer_was_lost_says_what_is_in_doubt(make_things, answerer, stand, proxy) -> None:
    things = make_things()
    answerer.place("k", "alpha")
    answerer.place("m", "beta")
    things.insert_one({"_id": 0, "station": "k"})
    proxy.cut.set()
    with pytest.raises(AmbiguousWrite) as lost:
        things.insert_many([{"_id": f"{i}", "station": key} for i, key in enumerate("mmkkm")])
    assert (lost.value.confirmed, lost.value.in_doubt, lost.value.not_attempted) == (2, (2, 3), (4,))
    assert sorted(d["_id"] for d in stand["beta"].find()) == ["0", "1"]


def test_a_partition_that_is_down_is_reported_and_nothing_is_in_doubt(things, answerer, sharded) -> None:
    port = free_port()
    answerer.uris["alpha"] = f"mongodb://someone:secret@127.0.0.1:{port}/?directConnection=true"
    for act in (
        lambda: things.insert_one({"station": "k"}),
        lambda: things.insert_many([{"station": "k"}]),
        lambda: things.find_one({"station": "k"}),
        lambda: things.count_documents({}),
    ):
        with pytest.raises(Unreachable, match="partition alpha") as down:
            act()
        assert f"127.0.0.1:{port}" in str(down.value)
        assert "secret" not in str(down.value)


def test_a_bulk_write_continues_on_the_other_partitions_if_one_is_down(things, answerer, stand) -> None:
    answerer.uris["alpha"] = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    answerer.place("m", "beta")
    with pytest.raises(BulkWriteError) as partly:
        things.insert_many([{"_id": i, "station": key} for i, key in enumerate("kmkm")], ordered=False)
    assert partly.value.details["nInserted"] == 2
    assert [(e["index"], e["code"]) for e in partly.value.details["writeErrors"]] == [(0, 6), (2, 6)]
    assert stand["beta"].count_documents({}) == 2


def test_a_read_goes_to_another_copy_if_its_copy_does_not_answer(things, answerer, stand) -> None:
    answerer.place("k", "beta")
    things.insert_one({"_id": 1, "station": "k"})
    answerer.uris["gamma"] = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    answerer.answered["k"] = ("gamma", 1)  # the sidecar's state until it is refreshed
    assert things.find_one({"station": "k"}) == {"_id": 1, "station": "k"}
    answerer.answered["k"] = ("gamma", 1)
    assert things.count_documents({"station": "k"}) == 1
