"""Open reads that can't be seen, because the privilege is missing or the server fails."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from foreshard.stores.partition.units.open_cursors import NOT_AUTHORISED, reads_opened_before


def refusing(code: int) -> Any:
    def aggregate(_pipeline: object) -> None:
        raise OperationFailure("refused", code)

    return SimpleNamespace(admin=SimpleNamespace(aggregate=aggregate))


def test_without_the_privilege_no_read_is_seen():
    assert reads_opened_before(refusing(NOT_AUTHORISED), ["db.trips"], datetime.now(UTC)) == 0


def test_another_refusal_is_an_error():
    with pytest.raises(OperationFailure):
        reads_opened_before(refusing(1), ["db.trips"], datetime.now(UTC))
