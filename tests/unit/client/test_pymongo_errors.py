"""The client's errors are pymongo's too."""

from __future__ import annotations

import ast
import inspect
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo import errors as pymongo

import foreshard.client
from foreshard.client.routing import pymongo_errors
from foreshard.errors import ForeshardError

MADE = [
    (pymongo_errors.ServiceUnreachable("partition alpha", "host:1", "start it"), pymongo.ConnectionFailure),
    (pymongo_errors.NoNewerTable("app.things", "read", "k", "alpha"), pymongo.ServerSelectionTimeoutError),
    (pymongo_errors.PartitionUnregistered("alpha", ("beta",)), pymongo.ServerSelectionTimeoutError),
    (pymongo_errors.WriteInDoubt("app.things", "insert_one", ("k",), "alpha", "NetworkTimeout: late"), pymongo.AutoReconnect),
    (pymongo_errors.WriteFenced("app.things", "k", "alpha", timedelta(seconds=1)), pymongo.WriteError),
    (pymongo_errors.CursorOvertaken("app.things", "k", "alpha", 3), pymongo.CursorNotFound),
    (pymongo_errors.TransactionOvertaken("app.things", "update_one", "k", "alpha"), pymongo.OperationFailure),
    (pymongo_errors.OperationRefused("app.things", "aggregate", "it can't", "don't"), pymongo.InvalidOperation),
    (pymongo_errors.IndexesDiffer("app.things", "create_index", "it failed", "repeat it"), pymongo.OperationFailure),
    (pymongo_errors.KeyRefused("k", 400, "the key is odd"), pymongo.InvalidOperation),
    (pymongo_errors.ClientMisconfigured("sidecar_url", "it is odd", "change it"), pymongo.ConfigurationError),
]
KINDS = [kind for _, kind in inspect.getmembers(pymongo_errors, inspect.isclass) if kind.__module__ == pymongo_errors.__name__]


@pytest.mark.parametrize(("error", "nearest"), MADE, ids=lambda value: getattr(type(value), "__name__", str(value)))
def test_an_error_of_the_client_is_the_nearest_of_pymongo_and_keeps_its_line_and_fields(error, nearest) -> None:
    assert isinstance(error, nearest)
    assert isinstance(error, ForeshardError)
    assert str(error) == error.args[0]
    assert "\n" not in str(error)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert isinstance(error.timeout, bool)
    assert error.has_error_label("RetryableWriteError") is False


def test_every_error_is_tried_here() -> None:
    assert {type(error) for error, _ in MADE} == set(KINDS)


def test_the_client_raises_no_error_that_pymongos_handlers_would_miss() -> None:
    bases = {base.__name__ for kind in KINDS for base in kind.__bases__ if issubclass(base, ForeshardError)}
    folder = Path(foreshard.client.__file__).parent
    found = [
        f"{path.name}:{call.lineno} makes {call.func.id}"
        for path in folder.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in bases
    ]
    assert found == []
