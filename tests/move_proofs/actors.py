"""A mover of the model, and what its ports have told it: two movers that were told the same do the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from tests.unit.move.simulated_partition import Feed

from foreshard.errors import ForeshardError
from foreshard.ports.move_journal import MoveRecord


@dataclass
class Actor:
    """A mover on its way to the move's end, and a digest of all that its ports have told it."""

    greenlet: Any
    told: int = 0
    calls: int = 0
    dying: bool = False

    @property
    def is_alive(self) -> bool:
        return not self.greenlet.dead


class Observed:
    """A port whose answers go into its actor's digest."""

    def __init__(self, inner: Any, actor: Actor) -> None:
        self._inner, self._actor = inner, actor

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return self._heard(name, found)

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return self._heard(name, found(*arguments, **named))
            except ForeshardError as error:
                self._heard(name, type(error).__name__)
                raise

        return call

    def _heard(self, name: str, answer: Any) -> Any:
        if isinstance(answer, Feed):
            return Observed(answer, self._actor)
        if isinstance(answer, GeneratorType):
            return self._each(name, answer)
        self._actor.told = hash((self._actor.told, name, brief(answer)))
        return answer

    def _each(self, name: str, answers: Iterator[Any]) -> Iterator[Any]:
        for answer in answers:
            yield self._heard(name, answer)
        self._actor.told = hash((self._actor.told, name, "end"))


def brief(answer: Any) -> str:
    if isinstance(answer, MoveRecord):
        return (
            f"{answer.state} {answer.lease} {answer.position} {answer.opened_from} {sorted(answer.notes)} {len(answer.history)}"
        )
    return repr(answer)
