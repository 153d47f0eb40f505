"""Plans in the control database, one document per hour.

``plans {_id: hour, table_version, dry_run, made_at, moves: [{move_id, units, source, target, estimated_bytes, clump, reason}],
shadows, removals: [{shadow_id, key, source, target, reason}], refusals, warnings: [{partition_id, reason}],
lps: [{partition_id, before, after}]}`` with ``reason: {code, sentence, facts}``. A dry run never replaces a live plan. Moves of
older plans name one ``key`` instead of ``units``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from foreshard.errors import MissingStageResult
from foreshard.model import Move, Plan, PlannedShadow, PlanWarning, Reason, Refusal
from foreshard.stores.control._move_documents import units_of
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import PlanStatus


class MongoPlanStore:
    """Implements :class:`foreshard.ports.stages.PlanStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._plans = database["plans"]

    def save(self, plan: Plan) -> None:
        """Replace the hour's plan. A dry run replaces only a dry run; it is dropped if there is a live plan."""
        replaced = {"_id": plan.hour, "dry_run": True} if plan.dry_run else {"_id": plan.hour}
        try:
            self._plans.replace_one(replaced, _document(plan), upsert=True)
        except DuplicateKeyError:
            if not plan.dry_run:
                raise

    def load(self, hour: datetime) -> Plan:
        """Return the hour's plan. Raise :class:`MissingStageResult` if there is none."""
        found = self._plans.find_one({"_id": hour})
        if found is None:
            raise MissingStageResult("plan", hour.isoformat(), "foreshard plan hour")
        return _plan(found)

    def latest_status(self) -> tuple[datetime, PlanStatus] | None:
        """Return the hour and the sizes of the newest plan that is not a dry run."""
        names = ("moves", "shadows", "removals", "refusals")
        sizes = {name: {"$size": f"${name}"} for name in names}
        found = self._plans.find_one({"dry_run": {"$ne": True}}, sizes, sort=[("_id", -1)])
        return (found["_id"], PlanStatus(*(found[name] for name in names))) if found else None


def _document(plan: Plan) -> Document:
    names = sorted(set(plan.lps_before) | set(plan.lps_after))
    return {
        "_id": plan.hour,
        "table_version": plan.table_version,
        "dry_run": plan.dry_run,
        "made_at": datetime.now(UTC),
        "moves": [_row(move) for move in plan.moves],
        "shadows": [_row(shadow) for shadow in plan.shadows],
        "removals": [_row(removal) for removal in plan.removals],
        "refusals": [_row(refusal) for refusal in plan.refusals],
        "warnings": [_row(warning) for warning in plan.warnings],
        "unsettled": list(plan.unsettled),
        "lps": [
            {"partition_id": name, "before": plan.lps_before.get(name), "after": plan.lps_after.get(name)} for name in names
        ],
    }


def _row(part: Move | PlannedShadow | Refusal | PlanWarning) -> Document:
    reason = part.reason
    facts = {"code": reason.code, "sentence": reason.sentence, "facts": dict(reason.facts)}
    plain: Any = {name: getattr(part, name) for name in part.__dataclass_fields__ if name != "reason"}
    return {**plain, "reason": facts}


def _plan(document: Document) -> Plan:
    return Plan(
        hour=document["_id"],
        table_version=document["table_version"],
        moves=tuple(_move(row) for row in document["moves"]),
        shadows=tuple(PlannedShadow(**_fields(row)) for row in document["shadows"]),
        removals=tuple(PlannedShadow(**_fields(row)) for row in document["removals"]),
        refusals=tuple(Refusal(**_fields(row)) for row in document["refusals"]),
        warnings=tuple(PlanWarning(**_fields(row)) for row in document.get("warnings", ())),
        lps_before={row["partition_id"]: row["before"] for row in document["lps"] if row["before"] is not None},
        lps_after={row["partition_id"]: row["after"] for row in document["lps"] if row["after"] is not None},
        dry_run=document["dry_run"],
        unsettled=tuple(document.get("unsettled", ())),
    )


def _move(row: Document) -> Move:
    fields = _fields({name: value for name, value in row.items() if name not in ("key", "units")})
    return Move(**fields, units=units_of(row))


def _fields(row: Document) -> Document:
    reason = row["reason"]
    return {**row, "reason": Reason(reason["code"], reason["sentence"], MappingProxyType(reason["facts"]))}
