"""Placements packed into 16 bytes per cell: an open-addressing table over the 64-bit xxh3 of each key. Pure: buffers in and
out.

A cell is a pair (hash, value) of unsigned 64-bit numbers. An empty cell has the highest possible hash and the value 0. A key's
home cell is ``hash × homes ÷ 2⁶⁴``, so the hashes are in ascending order with gaps between them. A lookup starts at the home
cell and goes up until it meets a hash that is not below the key's. After the last home cell there are as many cells as the last
keys need, plus an empty one that ends every lookup. A value holds the number of the primary partition (16 bits), the number of
the set of shadows (20 bits; 0: none) and the epoch (28 bits).

If two listed keys have the same hash, packing notices it and tries another seed. A key that is *not* listed has the hash of a
listed key with a probability of (listed keys) ÷ 2⁶⁴, which is 5 in 10¹⁴ for a million keys. The seed is random, so an attacker
can't construct such a key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from foreshard.errors import TableNotPackable
from foreshard.model import Placement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CELL_BYTES = 16
LOAD = 0.8
"""Listed keys ÷ home cells, which makes 20 bytes per key."""
EMPTY = 2**64 - 1
PRIMARY_BITS, SHADOW_BITS, EPOCH_BITS = 16, 20, 28
PRIMARY_MASK, SHADOW_MASK = 2**PRIMARY_BITS - 1, 2**SHADOW_BITS - 1
SHADOWED = SHADOW_MASK << PRIMARY_BITS
"""The bits of a value that are 0 if the key has one copy."""
EPOCH_SHIFT = PRIMARY_BITS + SHADOW_BITS
KEYS_PER_BLOCK = 4096
SEEDS_TRIED = 8


def encoded(key: str) -> bytes:
    """The bytes of a key, which are hashed. Lone surrogates are allowed."""
    return key.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class PackedTable:
    """Cells (unsigned 64-bit numbers), the partitions and sets of shadows that values refer to, and the keys as JSON lists."""

    cells: memoryview
    homes: int
    seed: int
    count: int
    names: tuple[str, ...]
    shadow_sets: tuple[tuple[str, ...], ...]
    keys: tuple[memoryview, ...]

    def value(self, key: str) -> int:
        """The value of a key; 0 if it is not listed."""
        return self.finder()(encoded(key))

    def finder(self) -> Callable[[bytes], int]:
        """Return the lookup: a function from a key's bytes to its value, 0 if the key is not listed."""
        cells, homes, seed, digest_of = self.cells, self.homes, self.seed, xxh3_64_intdigest

        def find(key: bytes) -> int:
            digest = digest_of(key, seed)
            at = (digest * homes >> 64) * 2
            while (found := cells[at]) < digest:
                at += 2
            return cells[at + 1] if found == digest else 0

        return find

    def placement(self, key: str, value: int) -> Placement:
        """Decode the value of ``key``."""
        shadows = self.shadow_sets[value >> PRIMARY_BITS & SHADOW_MASK]
        return Placement(key, self.names[value & PRIMARY_MASK], shadows, value >> EPOCH_SHIFT)

    def listed(self) -> Iterator[str]:
        """Iterate over the keys, in the order in which they were packed."""
        for block in self.keys:
            yield from json.loads(str(block, "utf-8", "surrogatepass"))

    @property
    def words(self) -> int:
        """The least number of 64-bit words in ``cells``."""
        return 2 * (self.homes + 1)


class PackedPlacements(Mapping[str, Placement]):
    """The placements of a packed table, with a few changed ones over them (None: not listed any more). A read-only mapping."""

    __slots__ = ("_added", "base", "changed", "find")

    def __init__(self, base: PackedTable, changed: Mapping[str, Placement | None] | None = None) -> None:
        self.base = base
        self.find = find = base.finder()
        self.changed = {key: p for key, p in (changed or {}).items() if p is not None or find(encoded(key))}
        self._added = sum((not find(encoded(key))) - (placement is None) for key, placement in self.changed.items())

    def laid_over(self, changed: Mapping[str, Placement | None]) -> PackedPlacements:
        """Return these placements with ``changed`` over them, in time proportional to all changes since the base."""
        return PackedPlacements(self.base, {**self.changed, **changed})

    def rebased(self, base: PackedTable) -> PackedPlacements:
        """Return the same placements over a newer base. Changes that the base already contains are dropped."""
        packed = PackedPlacements(base)
        return PackedPlacements(base, {k: p for k, p in self.changed.items() if packed.get(k) != p})

    def __getitem__(self, key: str) -> Placement:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: str, default: Placement | None = None) -> Placement | None:  # type: ignore[override]
        """The placement of a key; ``default`` if it is not listed."""
        if key in self.changed:
            return self.changed[key] or default
        value = self.find(encoded(key))
        return self.base.placement(key, value) if value else default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self.base.listed() if self.changed.get(key, self) is not None)
        yield from (key for key in self.changed if not self.find(encoded(key)))

    def __len__(self) -> int:
        return self.base.count + self._added


def pack(placements: Collection[Placement], seeds: Iterable[int], names: Sequence[str] = ()) -> PackedTable:
    """Pack placements with the first of ``seeds`` that gives each key a distinct hash. ``names`` are numbered first.

    Raise :class:`TableNotPackable` if a key occurs twice, or if there are too many partitions, sets of shadows or epochs.
    """
    import numpy as np

    keys = [p.key for p in placements]
    values, names, shadow_sets = _values(placements, names)
    data = list(map(encoded, keys))
    for seed, _ in zip(seeds, range(SEEDS_TRIED), strict=False):
        hashes = np.fromiter(map(xxh3_64_intdigest, data, repeat(seed)), np.uint64, len(keys))
        order = np.argsort(hashes)
        ordered = hashes[order]
        if not len(keys) or (ordered[-1] < EMPTY and bool((ordered[1:] > ordered[:-1]).all())):
            cells, homes = _cells(ordered, values[order])
            return PackedTable(cells, homes, seed, len(keys), names, shadow_sets, _key_blocks(keys))
    repeated = len(set(keys)) < len(keys)
    raise TableNotPackable("a key is listed twice" if repeated else "two keys have the same hash under every seed")


def _values(
    placements: Collection[Placement], first: Sequence[str]
) -> tuple[npt.NDArray[np.uint64], tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Each placement's value, and the partitions and sets of shadows that the values refer to."""
    import numpy as np

    def column(numbers: Iterable[int]) -> npt.NDArray[np.uint64]:
        return np.fromiter(numbers, np.uint64, len(placements))

    primaries, shadows = [p.primary for p in placements], [p.shadows for p in placements]
    names = {name: number for number, name in enumerate(dict.fromkeys((*first, *sorted(set(primaries)))))}
    sets = {one: number for number, one in enumerate(dict.fromkeys(((), *sorted(set(shadows)))))}
    epochs = column(p.epoch for p in placements)
    lowest, highest = (int(epochs.min()), int(epochs.max())) if len(epochs) else (1, 1)
    if len(names) > PRIMARY_MASK or len(sets) > SHADOW_MASK or highest >= 2**EPOCH_BITS:
        problem = (
            f"{len(names)} partitions, {len(sets)} sets of shadows, epochs up to {highest}: at least one of these is too large"
        )
        raise TableNotPackable(problem)
    if lowest < 1:
        raise TableNotPackable("a listed key has epoch 0; listed keys start at epoch 1")
    values = column(map(names.__getitem__, primaries))
    values |= column(map(sets.__getitem__, shadows)) << np.uint64(PRIMARY_BITS)
    values |= epochs << np.uint64(EPOCH_SHIFT)
    return values, tuple(names), tuple(sets)


def _cells(hashes: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> tuple[memoryview, int]:
    """Put each hash into its home cell or, if that is taken, directly after the hash before it."""
    import numpy as np

    homes = max(1, int(len(hashes) / LOAD))
    upper, lower = hashes >> np.uint64(32), hashes & np.uint64(2**32 - 1)
    home = (upper * np.uint64(homes) + (lower * np.uint64(homes) >> np.uint64(32))) >> np.uint64(32)
    rank = np.arange(len(hashes), dtype=np.int64)
    at = np.maximum.accumulate(home.astype(np.int64) - rank) + rank
    size = max(homes, int(at[-1]) + 1 if len(at) else 0) + 1
    cells = np.zeros((size, 2), np.dtype("<u8"))
    cells[:, 0] = EMPTY
    cells[at, 0], cells[at, 1] = hashes, values
    return memoryview(cells.tobytes()).cast("Q"), homes


def _key_blocks(keys: Sequence[str]) -> tuple[memoryview, ...]:
    blocks = (keys[at : at + KEYS_PER_BLOCK] for at in range(0, len(keys), KEYS_PER_BLOCK))
    texts = (json.dumps(block, separators=(",", ":"), ensure_ascii=False) for block in blocks)
    return tuple(memoryview(encoded(text)) for text in texts)
