"""Seeded schedules of faults under twelve clients. Everything acknowledged is there, once, at its owner, and in a right order.

A schedule kills and pauses movers, cleaners, undos and watchdogs, restarts mongods, lets the primary of a set of three step
down, takes the control database away, shifts the times in the journal, and lets two operators ask for anything at any time.
`make nightly` runs 200 schedules (FORESHARD_SCHEDULES); FORESHARD_FIRST_SEED repeats a certain one.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.move_proofs.crowd import Client, Crowd
from tests.move_proofs.deployment import Proof, settings_of
from tests.move_proofs.nursery import Nursery
from tests.move_proofs.replica_set import ReplicaSet
from tests.move_proofs.schedule import Schedule
from tests.move_proofs.special_clients import SPECIAL, SpecialClient

SCHEDULES = int(os.environ.get("FORESHARD_SCHEDULES", "12"))
FIRST_SEED = int(os.environ.get("FORESHARD_FIRST_SEED", "1"))
ROUTED = 7
KEYS = ("k one", "key/2 ü")
OPTIONS = {"serverSelectionTimeoutMS": 3_000, "socketTimeoutMS": 20_000}


@dataclass
class World:
    """Servers, operators, and clients that go on from schedule to schedule."""

    proof: Proof
    servers: dict[str, ReplicaSet]
    operators: tuple[Nursery, ...]
    routed: list[Client]
    special: list[SpecialClient]

    def check(self, seed: int) -> None:
        """Check everything while the clients rest."""
        crowd = Crowd([*self.routed, *self.special], begin=False)
        with crowd.rest(self.proof.account):
            try:
                self.proof.check_settled()
                found = {identity: held[0][2] for identity, held in self.proof.found().items()}
                wrong = [problem for client in self.special for problem in client.wrong(found)]
                assert not wrong, wrong
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    servers = {name: ReplicaSet.make(name, members, folder) for name, members in {"control": 1, "alpha": 1, "beta": 3}.items()}
    operators = tuple(Nursery(tmp_path_factory.mktemp(name)) for name in ("operator-one", "operator-two"))
    uris = {name: servers[name].uri for name in ("alpha", "beta")}
    settings = settings_of(servers["control"].uri, "faults")
    proof = Proof(settings, uris, operators[0], KEYS, options=OPTIONS)
    proof.publish()
    for name in uris:
        proof.trips(name).create_index("expires", expireAfterSeconds=0)
        proof.trips(name).create_index("at.station")
    proof.fill(60)
    proof.move()  # before the first move, a partition that owns nothing has no fence
    proof.move()
    routed = [Client(proof.routed(number), KEYS, number) for number in range(ROUTED)]
    special = [kind(proof, number) for number, kind in enumerate(SPECIAL)]
    crowd = Crowd([*routed, *special])
    yield World(proof, servers, operators, routed, special)
    crowd.stop()
    proof.close()
    for operator in operators:
        operator.close()
    for server in servers.values():
        server.stop()


@pytest.mark.timeout(120 + 60 * SCHEDULES)
def test_whatever_fails_and_whatever_is_asked_for_nothing_is_lost_doubled_or_out_of_order(world: World) -> None:
    done: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    repairs: list[float] = []
    for seed in range(FIRST_SEED, FIRST_SEED + SCHEDULES):
        schedule = Schedule(seed, world.proof, world.servers, world.operators)
        begun = time.monotonic()
        schedule.run()
        ran = time.monotonic()
        schedule.settle()
        settled = time.monotonic()
        world.check(seed)
        print(
            f"seed {seed}: ran {ran - begun:.1f} s, settled {settled - ran:.1f} s, checked {time.monotonic() - settled:.1f} s"
        )
        repairs += [schedule.repaired] if schedule.repaired else []
        done.update(schedule.done)
        endings.update(ended.how for ended in schedule.ended)
    moves = Counter(str(record.state) for record in world.proof.wiring.move_journal.find())
    acknowledged = {client.kind: client.acknowledged for client in world.special}
    print(f"{SCHEDULES} schedules; actions {dict(done)}; processes {dict(endings)}; moves {dict(moves)}")
    print(f"{world.proof.checked} answers of routed clients checked for linearizability; writes of others {acknowledged}")
    refused, silent = (sum(getattr(c.documents, name) for c in world.routed) for name in ("refusals", "silences"))
    print(f"refused {refused} times, no server found {silent} times; the watchdog repaired fences within {repairs} s")
    assert all(acknowledged.values())
    assert moves["done"] > 0
