"""Batches: a plan's moves from one partition to another are one, with one copy, one feed, one fence and one switch (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace

from foreshard.model import Move, Reason
from foreshard.model.key_space import units_label

BATCH_BYTES = 2**30
"""A larger batch would delay the relief of its first keys, and lose more work when it is reverted."""


def batched(moves: Iterable[Move], alone: Collection[str] = ()) -> tuple[Move, ...]:
    """Join moves with the same source, target and reason's code, in their order, up to ``BATCH_BYTES``.

    Moves with a unit of ``alone`` stay alone: a batch with such a unit was reverted lately, and would take the others with it.
    """
    batches: list[list[Move]] = []
    open_batch: dict[tuple[str, str, str], list[Move]] = {}
    avoided = frozenset(alone)
    for move in moves:
        kind = (move.source, move.target, move.reason.code)
        batch = open_batch.get(kind)
        if not avoided.isdisjoint(move.units):
            batches.append([move])
        elif batch is None or sum(each.estimated_bytes for each in batch) + move.estimated_bytes > BATCH_BYTES:
            open_batch[kind] = [move]
            batches.append(open_batch[kind])
        else:
            batch.append(move)
    return tuple(_joined(batch) for batch in batches)


def _joined(batch: list[Move]) -> Move:
    first = batch[0]
    if len(batch) == 1:
        return first
    names = [move.move_id for move in batch]
    units = tuple(dict.fromkeys(unit for move in batch for unit in move.units))
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    sentence = f"{units_label(units)} in {len(batch)} moves of the plan; the first: {first.reason.sentence}"
    reason = Reason(first.reason.code, sentence, {**first.reason.facts, "moves": names})
    size = sum(move.estimated_bytes for move in batch)
    return replace(first, move_id=f"batch-{digest}", units=units, estimated_bytes=size, reason=reason)
