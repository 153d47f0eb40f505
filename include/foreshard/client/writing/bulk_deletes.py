"""A run of deletes of a bulk write. In a transaction one failure undoes all, so what can be applied is sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import BulkWriteError

from foreshard.client.bulk.requests import BulkItem
from foreshard.client.writing.fenced_deletes import DeletesFenced, FencedDeletes
from foreshard.client.writing.write_errors import LEFT, REFUSED_BY_VALIDATOR

Failures = list[tuple[int, dict[str, Any]]]
"""Position in the run and server error of each request that was not applied."""


@dataclass(frozen=True, slots=True)
class BulkDeletes:
    """Sends deletes to the partition at ``uri``. ``add(raw result, run)`` notes what was applied.

    ``noting(keys)``: what is told of the session in which these keys' deletes were answered.
    """

    deletes: FencedDeletes
    uri: str
    add: Callable[[Mapping[str, Any], Sequence[BulkItem]], None]
    ordered: bool
    options: Mapping[str, Any]
    noting: Callable[[Iterable[str]], Callable[[Any], None]]

    async def send(self, run: Sequence[BulkItem]) -> Failures:
        """Apply a run: what is before the first failure if ``ordered``, and otherwise all that does not fail."""
        try:
            await self._apply(run)
        except DeletesFenced as fenced:
            error = {"code": REFUSED_BY_VALIDATOR, "errmsg": str(fenced), "errInfo": LEFT}
            failures: Failures = [(at, error) for at, item in enumerate(run) if item.key in fenced.keys]
        except BulkWriteError as refused:
            failures = [(entry["index"], entry) for entry in refused.details.get("writeErrors", ())]
            if not failures:
                raise
        else:
            return []
        failed = {at for at, _ in failures}
        sent = [at for at in range(len(run)) if at not in failed and not (self.ordered and at > min(failed))]
        more = await self.send([run[at] for at in sent]) if sent else []
        return sorted([*failures, *((sent[at], error) for at, error in more)], key=lambda failure: failure[0])

    async def _apply(self, run: Sequence[BulkItem]) -> None:
        requests = [item.request for item in run]

        def attempt(collection: Any, session: Any) -> Any:
            return collection.bulk_write(requests, ordered=self.ordered, session=session, **self.options)

        keys = {item.key for item in run}
        done = await self.deletes.run(self.uri, keys, attempt, self.noting(keys))
        self.add(done.bulk_api_result, run)
