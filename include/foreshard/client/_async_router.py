"""The router as the client's core asks it: what is known at once is answered at once, the rest never holds up an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from foreshard.client._driving import Mode
from foreshard.client._routes import ANYWHERE, Operation, PartitionAddress, ReadPreference, Route, Router


@dataclass(frozen=True, slots=True)
class AsyncRouter:
    """A router and how to wait for it."""

    router: Router
    mode: Mode

    async def route(self, key: str, operation: Operation, wish: ReadPreference = ANYWHERE, *, fresh: bool = False) -> Route:
        """Where ``key`` lives."""
        found = None if fresh else self.router.known(key, operation, wish)
        if found is not None:
            return found
        return await self.mode.blocking(partial(self.router.route, key, operation, wish, fresh=fresh))

    async def routes(
        self, keys: Sequence[str], operation: Operation, wish: ReadPreference = ANYWHERE, *, fresh: bool = False
    ) -> dict[str, Route]:
        """Where many keys live."""
        if len(keys) == 1:
            return {keys[0]: await self.route(keys[0], operation, wish, fresh=fresh)}
        return await self.mode.blocking(partial(self.router.routes, keys, operation, wish, fresh=fresh))

    async def partitions(self) -> tuple[PartitionAddress, ...]:
        """Every partition that may hold documents."""
        return await self.mode.blocking(self.router.partitions)

    async def refresh(self, since: float) -> None:
        """Have a table that was read after the moment ``since`` of the router's clock."""
        await self.mode.blocking(partial(self.router.refresh, since))

    def avoid(self, partition: str) -> None:
        """Send reads elsewhere for a while."""
        self.router.avoid(partition)

    def now(self) -> float:
        """The router's clock."""
        return self.router.now()
