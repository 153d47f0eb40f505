"""Shadows and moves of one key, under writers that follow the fence as a routed client does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from pymongo import MongoClient
from pymongo.errors import WriteError
from tests.integration.shadow_stage import ask, documents, lay_out, make_wiring

from foreshard.model.shadow_state import ShadowState
from foreshard.stack.kafka import Kafka
from foreshard.stack.mongod import Mongod
from foreshard.stages.manual_moves import move_units
from foreshard.stages.migrate import clean_moves
from foreshard.stages.shadow import run_shadow
from foreshard.stages.shadow_apply import apply_bounded, replicating
from foreshard.stages.shadow_listing import publish_shadow
from foreshard.stages.shadow_repair import shadow_differences
from foreshard.wiring import Wiring


@pytest.fixture
def wiring(
    mongods: tuple[Mongod, ...], kafka: Kafka, unique_name: str, control: MongoClient, partition_clients: dict[str, MongoClient]
) -> Iterator[Wiring]:
    with make_wiring(mongods, kafka, unique_name) as made:
        lay_out(made, mongods, {"hot": "alpha"})
        yield made


class Writers:
    """Threads that increment counters of the key's documents at its primary copy. Each acknowledged increment is counted."""

    def __init__(self, wiring: Wiring, clients: dict[str, MongoClient], database: str) -> None:
        self.acknowledged: Counter[str] = Counter()
        self._wiring, self._clients, self._database = wiring, clients, database
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(3)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        primary, turn = "alpha", 0
        while not self._stop.is_set():
            turn += 1
            name = f"{number}-{turn % 20}"
            try:
                collection = self._clients[primary][self._database]["last"]
                collection.update_one({"_id": name, "key": "hot"}, {"$inc": {"n": 1}}, upsert=True)
                self.acknowledged[name] += 1
            except WriteError as refused:
                if refused.code != 121:
                    raise
                primary = self._wiring.shadows.placements(["hot"])["hot"].primary
                self._stop.wait(0.005)


def counters(client: MongoClient, database: str) -> dict[str, int]:
    return {document["_id"]: document["n"] for document in documents(client, database, "hot")}


def test_a_shadow_follows_a_real_move_of_its_primary(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    with replicating(wiring), Writers(wiring, partition_clients, unique_name) as writers:
        run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
        publish_shadow(wiring, "hot|beta")
        assert move_units(wiring, ["hot"], "gamma").state == "switched"
        clean_moves(wiring)
        assert apply_bounded(wiring, 20).stale == 0
    assert shadow_differences(wiring, "hot|beta") == ()
    assert counters(partition_clients["gamma"], unique_name) == dict(writers.acknowledged)
    assert counters(partition_clients["beta"], unique_name) == dict(writers.acknowledged)
    assert wiring.routing.current().placements["hot"].shadows == ("beta",)


def test_a_move_onto_a_shadow_absorbs_it_and_loses_no_write(
    wiring: Wiring, partition_clients: dict[str, MongoClient], unique_name: str
) -> None:
    with replicating(wiring), Writers(wiring, partition_clients, unique_name) as writers:
        run_shadow(wiring, ask(wiring, "hot", "beta").shadow_id)
        publish_shadow(wiring, "hot|beta")
        assert move_units(wiring, ["hot"], "beta").state == "switched"
        clean_moves(wiring)
    assert counters(partition_clients["beta"], unique_name) == dict(writers.acknowledged)
    assert wiring.shadows.get("hot|beta").state is ShadowState.RETIRED
    placement = wiring.routing.current().placements["hot"]
    assert (placement.primary, placement.shadows) == ("beta", ())
