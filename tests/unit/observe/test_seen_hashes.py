"""A set of hashes that grows by batches says exactly which of them are new, and its time grows with the batches only."""

import numpy as np
import pytest

from foreshard.observe.duplicates import SeenHashes


def test_only_the_first_of_equal_hashes_is_new_within_a_batch_and_between_batches() -> None:
    random, seen, known = np.random.default_rng(5), SeenHashes(), set[int]()
    ends = np.array([0, 0, 2**64 - 1, 2**63, 2**58, 2**58 - 1], np.uint64)
    for batch in (ends, *(random.integers(0, 2**64 - 1, n, np.uint64, endpoint=True) for n in (1, 900, 0, 50, 4000)), ends):
        batch = np.concatenate([batch, random.choice(np.array(sorted(known) or [0], np.uint64), 40)])
        expected = []
        for value in batch.tolist():
            expected.append(value not in known)
            known.add(value)
        assert seen.add(batch).tolist() == expected
        assert len(seen) == len(known)


def test_a_hash_is_sorted_again_only_a_few_times_however_many_batches_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that sorted all its hashes at each batch took 27 s for 10 million, and four times as long for twice as many."""
    random, seen = np.random.default_rng(5), SeenHashes()
    merged: list[int] = []
    real = np.concatenate
    monkeypatch.setattr(np, "concatenate", lambda arrays: (merged.append(sum(map(len, arrays))), real(arrays))[1])
    for _ in range(400):
        seen.add(random.integers(0, 2**64 - 1, 500, np.uint64, endpoint=True))
    assert 0 < sum(merged) < 400 * 500 * 12
