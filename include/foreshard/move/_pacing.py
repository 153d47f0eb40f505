"""How long a move pauses after a batch: a token bucket, and a share of the time that falls while others suffer. Pure.

The share follows additive increase and multiplicative decrease, as in TCP (Chiu and Jain, 1989): it is halved at each look at
which something suffers, and rises by ``RISE`` at each look at which nothing does. A move whose share is a quarter pauses three
times as long as it works.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from foreshard.ports.pacing import MigrationLimits

BURST_SECONDS = 0.5
"""Unused time counts for at most this long, so that a move catches up after a slow batch, but not after a slow minute."""
RISE = 1 / 16
LOWEST_SHARE = 1 / 16


@dataclass(frozen=True, slots=True)
class Pace:
    """The state of a move's pacing. Times in seconds of one clock.

    ``due``: the batches so far were allowed to end then. ``resumed``: the move went on working then. ``share``: the share of
    the time in which it may work.
    """

    due: float
    resumed: float
    share: float = 1.0


def pause_after(pace: Pace, now: float, documents: int, size: int, limits: MigrationLimits) -> tuple[Pace, float]:
    """Return the new pace and the seconds to pause at ``now``, after a batch of ``documents`` and ``size`` bytes."""
    cost = max(
        size / limits.bytes_per_second if limits.bytes_per_second else 0.0,
        documents / limits.documents_per_second if limits.documents_per_second else 0.0,
    )
    due = max(pace.due + cost, now - BURST_SECONDS)
    worked = max(0.0, now - pace.resumed)
    pause = max(0.0, due - now, worked * (1 / pace.share - 1))
    return replace(pace, due=due, resumed=now + pause), pause


def looked(pace: Pace, *, suffers: bool) -> Pace:
    """Return the pace after a look at what suffers."""
    share = pace.share / 2 if suffers else pace.share + RISE
    return replace(pace, share=min(1.0, max(LOWEST_SHARE, share)))
