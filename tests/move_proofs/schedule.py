"""One seeded schedule of faults and of what two operators ask for at random."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from pymongo.errors import PyMongoError
from tests.move_proofs.deployment import Proof
from tests.move_proofs.nursery import Ended, Nursery
from tests.move_proofs.replica_set import ReplicaSet

from foreshard.errors import ForeshardError

ACTIONS = {
    "run": 6, "undo": 2, "revert": 2, "finish": 2, "clean": 2, "tend": 3,
    "kill": 3, "pause": 2, "wake": 3,
    "restart a partition": 0.7, "step down": 0.7, "control away": 0.5, "clock jumps": 0.7,
}  # fmt: skip
"""Action → weight."""
OPERATIONS = ("run", "undo", "revert", "finish", "clean", "tend")
STEPS, LONGEST_REST = 12, 0.25
"""Actions of a schedule, and the longest rest after one, in seconds."""
PATIENCE = 90
"""Seconds until the operators' processes must have ended, once all servers are there again."""
AWAY = 1.0
JUMP = timedelta(hours=1)


@dataclass
class Schedule:
    """Runs the actions. ``servers``: control, and the partitions by name. Each operator has processes of its own."""

    seed: int
    proof: Proof
    servers: Mapping[str, ReplicaSet]
    operators: tuple[Nursery, ...]
    running: dict[int, Nursery] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    ended: list[Ended] = field(default_factory=list)
    repaired: float = 0.0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def run(self) -> None:
        """Do the actions, one after the other. What they start goes on beside the next ones."""
        for _ in range(STEPS):
            action = self.random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            self.done[action] += 1
            with suppress(PyMongoError, ForeshardError):
                self._act(action)
            time.sleep(self.random.uniform(0, LONGEST_REST))

    def settle(self) -> None:
        """Bring all servers back, let all processes end, finish all moves, and let the watchdog repair the fences.

        A process that dies right after a late ``collMod`` leaves a fence that only the watchdog repairs. ``repaired`` are the
        seconds that this took. The clocks are right again: a cleaner waits for a switch that the journal dates an hour ahead.
        """
        self._set_clocks_right()
        for pid in tuple(self.paused):
            self._wake(pid)
        deadline = time.monotonic() + PATIENCE
        while self.running:
            for pid in tuple(self.running):
                self._reap(pid)
            if time.monotonic() > deadline:
                told = [nursery.told(pid) for pid, nursery in self.running.items()]
                raise AssertionError(f"seed {self.seed}: processes do not end: {told}\n{self.proof.account()}")
            time.sleep(0.02)
        finished = [self.proof.child("finish", "") for _ in range(2)]
        assert finished[-1].code == 0, f"seed {self.seed}: {finished[-1].output}"
        watched = self.proof.child("watch", "")
        assert watched.code == 0, f"seed {self.seed}: {watched.output}\n{self.proof.account()}"
        self.repaired = float(watched.output.splitlines()[-1])

    def _act(self, action: str) -> None:
        if action in OPERATIONS:
            self._ask(action)
        elif action == "kill":
            if pid := self._chosen():
                os.kill(pid, signal.SIGKILL)
                self.paused.discard(pid)
        elif action == "pause":
            if pid := self._chosen():
                os.kill(pid, signal.SIGSTOP)
                self.paused.add(pid)
        elif action == "wake":
            if self.paused:
                self._wake(self.random.choice(sorted(self.paused)))
        elif action == "restart a partition":
            self._away(self.servers[self.random.choice(list(self.proof.uris))])
        elif action == "step down":
            self.servers["beta"].step_down()
        elif action == "control away":
            self._away(self.servers["control"])
        else:
            self._clock_jumps()

    def _ask(self, operation: str) -> None:
        """Let an operator start an operation on a move that is open, has just ended, or is new."""
        moves = [record.move_id for record in self.proof.wiring.move_journal.find()][-3:]
        if operation == "run" and (not moves or self.random.random() < 0.7):
            keys = self.random.choice([(key,) for key in self.proof.keys] + [self.proof.keys])
            moves = [self.proof.plan(keys)]
        if not moves:
            return
        operator = self.random.choice(self.operators)
        self.running[operator.start(self.proof.environment, operation, self.random.choice(moves))] = operator

    def _chosen(self) -> int | None:
        for pid in tuple(self.running):
            self._reap(pid)
        return self.random.choice(sorted(self.running)) if self.running else None

    def _reap(self, pid: int) -> None:
        if (ended := self.running[pid].poll(pid)) is not None:
            self.ended.append(ended)
            self.paused.discard(pid)
            del self.running[pid]

    def _wake(self, pid: int) -> None:
        self.paused.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _away(self, server: ReplicaSet) -> None:
        (server.kill if self.random.random() < 0.5 else server.stop)()
        time.sleep(self.random.uniform(0, AWAY))
        server.start()
        server.wait_until_writable()

    def _clock_jumps(self) -> None:
        """Shift the times in the journal by an hour, as if the control database's or a mover's clock had jumped.

        The clocks of the servers themselves are the machine's, and stay.
        """
        self._shift(JUMP if self.random.random() < 0.5 else -JUMP)

    def _shift(self, by: timedelta) -> None:
        shifted = {"$dateAdd": {"startDate": "$lease_until", "unit": "second", "amount": int(by.total_seconds())}}
        entered = {"$dateAdd": {"startDate": "$$entry.at", "unit": "second", "amount": int(by.total_seconds())}}
        entries = {"input": "$history", "as": "entry", "in": {"$mergeObjects": ["$$entry", {"at": entered}]}}
        moves = self.proof.wiring.mongo.control_database["moves"]
        moves.update_many({"active": True}, [{"$set": {"lease_until": shifted, "history": {"$map": entries}}}])

    def _set_clocks_right(self) -> None:
        """Bring the journal's times that lie ahead back to now. Jumps do not cancel out: each shifts only what it meets."""
        lease = {"$min": ["$lease_until", {"$dateAdd": {"startDate": "$$NOW", "unit": "second", "amount": 1}}]}
        held = {"$cond": [{"$eq": [{"$type": "$lease_until"}, "date"]}, lease, "$lease_until"]}
        entries = {
            "input": "$history",
            "as": "entry",
            "in": {"$mergeObjects": ["$$entry", {"at": {"$min": ["$$entry.at", "$$NOW"]}}]},
        }
        moves = self.proof.wiring.mongo.control_database["moves"]
        moves.update_many({"active": True}, [{"$set": {"lease_until": held, "history": {"$map": entries}}}])
