"""Runs an operation of a case on a collection, plain or routed, and tells its result in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from bson import ObjectId
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import SecondaryPreferred
from pymongo.results import BulkWriteResult, DeleteResult, InsertManyResult, InsertOneResult, UpdateResult
from pymongo.write_concern import WriteConcern

KINDS = {
    "insertOne": InsertOne, "updateOne": UpdateOne, "updateMany": UpdateMany, "replaceOne": ReplaceOne, "deleteOne": DeleteOne,
    "deleteMany": DeleteMany,
}  # fmt: skip
NAMES = {"fieldName": "key", "returnDocument": "return_document"}
UNCHANGED = {"aggregate", "countDocuments", "distinct", "estimatedDocumentCount"}
"""Verbs that hand further options to the server as they are."""
KNOWN = {
    "find", "findOne", "aggregate", "distinct", "countDocuments", "estimatedDocumentCount", "insertOne", "insertMany",
    "updateOne", "updateMany", "replaceOne", "deleteOne", "deleteMany", "findOneAndUpdate", "findOneAndReplace",
    "findOneAndDelete", "bulkWrite",
}  # fmt: skip
COUNTS = ("nInserted", "nMatched", "nModified", "nRemoved", "nUpserted")
Change = Callable[[str, Any], Any]
"""Changes an argument, by its name: adds the key of a sharded collection to it."""


def with_options(collection: Any, options: Mapping[str, Any]) -> Any:
    """A collection with the options that a case gives to it."""
    given: dict[str, Any] = {}
    if "writeConcern" in options:
        given["write_concern"] = WriteConcern(**options["writeConcern"])
    if "readConcern" in options:
        given["read_concern"] = ReadConcern(**options["readConcern"])
    if "readPreference" in options:
        given["read_preference"] = SecondaryPreferred(max_staleness=options["readPreference"]["maxStalenessSeconds"])
    return collection.with_options(**given) if given else collection


def run(collection: Any, operation: Mapping[str, Any], change: Change) -> Any:
    """Run an operation, and return its result in plain values. Raises what the collection raises."""
    name, given = operation["name"], deepcopy(operation.get("arguments", {}))
    arguments: dict[str, Any] = {}
    for argument, value in given.items():
        arguments[NAMES.get(argument) or _snake(argument, name)] = _value(argument, change(argument, value), change)
    found = getattr(collection, _snake(name, ""))(**arguments)
    return plain(list(found) if name in {"find", "aggregate"} else found)


def _snake(name: str, verb: str) -> str:
    keep = verb in UNCHANGED or (verb.startswith("findOneAnd") and name == "bypassDocumentValidation")
    return name if keep else re.sub(r"(?<=[a-z])([A-Z]+)", lambda found: "_" + found[1].lower(), name)


def _value(name: str, value: Any, change: Change) -> Any:
    if name == "requests":
        return [_request(*one.popitem(), change) for one in value]
    if name == "returnDocument":
        return value == "After"
    return value


def _request(kind: str, given: Mapping[str, Any], change: Change) -> Any:
    arguments = {_snake(name, ""): change(name, value) for name, value in given.items()}
    return KINDS[kind](**arguments)


def plain(value: Any) -> Any:
    """A result or a document in plain values. Drawn ids are alike."""
    if isinstance(value, ObjectId):
        return "drawn"
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if not getattr(value, "acknowledged", True):
        return "not acknowledged"
    if isinstance(value, InsertOneResult):
        return plain(value.inserted_id)
    if isinstance(value, InsertManyResult):
        return plain(value.inserted_ids)
    if isinstance(value, UpdateResult):
        return plain([value.matched_count, value.modified_count, value.upserted_id])
    if isinstance(value, DeleteResult):
        return value.deleted_count
    if isinstance(value, BulkWriteResult):
        return _of_bulk(value.bulk_api_result)
    return value


def _of_bulk(result: Mapping[str, Any]) -> Any:
    errors = [[error["index"], error["code"]] for error in result.get("writeErrors", [])]
    return plain([*(result[name] for name in COUNTS), result["upserted"], errors])


def failure(error: Exception) -> Any:
    """What is compared of an error besides its type."""
    if isinstance(error, BulkWriteError):
        return _of_bulk(error.details)
    return getattr(error, "code", None)
