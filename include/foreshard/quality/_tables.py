"""The expectations of the gate ``table``: a published routing table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from foreshard.model import Partition, RoutingTable, SlotMap
from foreshard.model.key_space import slot_unit
from foreshard.quality._suite import Suite, between, few, final, known, not_null, unique


def suites(
    table: RoutingTable, partitions: Sequence[Partition], last_version: int, previous_keys: Collection[str]
) -> tuple[Suite, ...]:
    """Return the suites ``placements`` (each listed key), ``slots`` and ``table`` (totals)."""
    names = tuple(partition.partition_id for partition in partitions)
    made = (_placements(table, names), _slots(table.slots, names), _totals(table, last_version, previous_keys))
    return tuple(final(suite) for suite in made)


def _placements(table: RoutingTable, names: tuple[str, ...]) -> Suite:
    placements = table.placements
    registered = frozenset(names)
    frame = pd.DataFrame(
        {
            "key": list(placements),
            "primary": [p.primary or None for p in placements.values()],
            "epoch": np.array([p.epoch for p in placements.values()], dtype=np.int64),
            "filed_wrongly": np.array([p.key != key for key, p in placements.items()], dtype=np.int64),
            "shadows_repeated": np.array([len(p.shadows) - len(set(p.shadows)) for p in placements.values()], dtype=np.int64),
            "shadows_beside_primary": np.array([p.shadows.count(p.primary) for p in placements.values()], dtype=np.int64),
            "shadows_unknown": np.array([len(set(p.shadows) - registered) for p in placements.values()], dtype=np.int64),
        }
    )
    return Suite(
        "placements",
        frame,
        (
            unique("key", "{bad} of {all} keys are listed more than once ({examples})"),
            not_null("primary", "{bad} of {all} keys have no primary"),
            known("primary", names, "{bad} of {all} keys have a primary on an unknown partition ({examples})"),
            between("epoch", 1, None, "every epoch is at least 1", "{bad} of {all} keys have an epoch below 1 ({examples})"),
            between(
                "filed_wrongly", 0, 0, "every placement names its key", "{bad} of {all} placements are listed under another key"
            ),
            between("shadows_repeated", 0, 0, "no shadow is listed twice", "{bad} of {all} keys list a shadow twice"),
            between(
                "shadows_beside_primary",
                0,
                0,
                "no shadow is on its primary copy's partition",
                "{bad} of {all} keys have a shadow on their primary copy's partition",
            ),
            between(
                "shadows_unknown",
                0,
                0,
                "every shadow is on a known partition",
                "{bad} of {all} keys have a shadow on an unknown partition",
            ),
        ),
    )


def _slots(slots: SlotMap, names: tuple[str, ...]) -> Suite:
    placements = slots.placements
    frame = pd.DataFrame(
        {
            "primary": [p.primary or None for p in placements],
            "epoch": np.array([p.epoch for p in placements], dtype=np.int64),
            "filed_wrongly": np.array([p.key != slot_unit(slot) for slot, p in enumerate(placements)], dtype=np.int64),
        }
    )
    return Suite(
        "slots",
        frame,
        (
            not_null("primary", "{bad} of {all} slots have no primary"),
            known("primary", names, "{bad} of {all} slots have a primary on an unknown partition ({examples})"),
            between("epoch", 1, None, "every epoch is at least 1", "{bad} of {all} slots have an epoch below 1 ({examples})"),
            between("filed_wrongly", 0, 0, "every slot is in its place", "{bad} of {all} slots are not in their place"),
        ),
    )


def _totals(table: RoutingTable, last_version: int, previous_keys: Collection[str]) -> Suite:
    lost = [key for key in previous_keys if key not in table.placements]
    missing = table.slots.space.slots - len(table.slots.placements)
    rows = (
        ("version", table.version, last_version, last_version, f"the table's version is {table.version}, not {last_version}"),
        ("missing_slots", missing, 0, 0, f"{missing:,} slots have no row"),
        ("lost_keys", len(lost), 0, 0, f"{_count(lost, previous_keys)} keys of the previous version are missing ({few(lost)})"),
    )
    claims = {
        "version": "the table is the last version of routing_versions",
        "missing_slots": "every slot has a row, so every key has a partition",
        "lost_keys": "no key of the previous version is missing, unless it was delisted",
    }
    frame = pd.DataFrame({name: [float(value)] for name, value, *_ in rows})
    return Suite("table", frame, tuple(between(name, low, high, claims[name], failure) for name, _, low, high, failure in rows))


def _count(some: Collection[str], among: Collection[str]) -> str:
    return f"{len(some):,} of {len(among):,}"
