"""Results of the quality gates in the control database.

``gates {_id: {gate, hour}, hour, passed, failures: [line, …], warnings: [line, …], final: [line, …], expectations: count,
at: time of the check, accepted: {by, because, at, failures: [line, …]}}``.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from bson import MaxKey, MinKey
from pymongo.database import Database

from foreshard.errors import MissingStageResult
from foreshard.model import Acceptance, GateResult
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import GateStatus


class MongoGateStore:
    """Keeps the latest result per gate and hour."""

    def __init__(self, database: Database[Document]) -> None:
        self._gates = database["gates"]

    def save(self, result: GateResult) -> None:
        """Replace the result of the gate for its hour. A person's acceptance stays."""
        made = {
            "hour": result.hour,
            "passed": result.passed,
            "failures": list(result.failures),
            "warnings": list(result.warnings),
            "final": list(result.final),
            "expectations": result.expectations,
            "at": datetime.now(UTC),
        }
        self._gates.update_one({"_id": {"gate": result.gate, "hour": result.hour}}, {"$set": made}, upsert=True)

    def accept(self, gate: str, hour: datetime, acceptance: Acceptance) -> None:
        """Save a person's acceptance of the hour. It replaces an earlier one."""
        made = {**asdict(acceptance), "failures": list(acceptance.failures)}
        self._gates.update_one({"_id": {"gate": gate, "hour": hour}}, {"$set": {"accepted": made}})

    def acceptance(self, gate: str, hour: datetime) -> Acceptance | None:
        """Return the acceptance of the hour; None if no person has accepted it."""
        found = (self._gates.find_one({"_id": {"gate": gate, "hour": hour}}) or {}).get("accepted")
        return _acceptance(found) if found else None

    def refused(self, gate: str, since: datetime, until: datetime) -> tuple[datetime, ...]:
        """Return the hours from ``since`` to ``until``, both included, that the gate has refused."""
        span = {"$gte": {"gate": gate, "hour": since}, "$lte": {"gate": gate, "hour": until}}
        return tuple(found["hour"] for found in self._gates.find({"_id": span, "passed": False}, {"hour": 1}).sort("_id"))

    def last_acceptance(self, gate: str) -> Acceptance | None:
        """Return what a person has accepted last, of any hour; None without any."""
        of_gate = {"$gte": {"gate": gate, "hour": MinKey()}, "$lte": {"gate": gate, "hour": MaxKey()}}
        found = self._gates.find_one({"_id": of_gate, "accepted": {"$exists": True}}, sort=[("accepted.at", -1)])
        return _acceptance(found["accepted"]) if found else None

    def load(self, gate: str, hour: datetime) -> GateResult:
        """Return the result of ``gate`` for ``hour``."""
        document = self._gates.find_one({"_id": {"gate": gate, "hour": hour}})
        if document is None:
            raise MissingStageResult(f"result of gate {gate}", hour.isoformat(), f"the {gate} gate")
        return _result(document)

    def latest(self) -> tuple[GateStatus, ...]:
        """Return the latest hour of each gate. It uses the index on ``_id`` alone: ids sort by gate, then hour."""
        found = []
        latest = self._gates.find_one(sort=[("_id", -1)])
        while latest is not None:
            gate, hour = latest["_id"]["gate"], latest["_id"]["hour"]
            found.append(GateStatus(gate, hour, latest["passed"], len(latest["failures"]), latest.get("at")))
            latest = self._gates.find_one({"_id": {"$lt": {"gate": gate, "hour": MinKey()}}}, sort=[("_id", -1)])
        return tuple(reversed(found))

    def recent(self, limit: int) -> tuple[GateResult, ...]:
        """Return the last results, newest hour first."""
        return tuple(_result(found) for found in self._gates.find().sort({"_id.hour": -1, "_id.gate": 1}).limit(limit))


def _result(document: Document) -> GateResult:
    identity = document["_id"]
    return GateResult(
        identity["gate"],
        identity["hour"],
        document["passed"],
        tuple(document["failures"]),
        document["expectations"],
        tuple(document.get("warnings", ())),
        tuple(document.get("final", ())),
    )


def _acceptance(found: Document) -> Acceptance:
    return Acceptance(**{**found, "failures": tuple(found["failures"])})
