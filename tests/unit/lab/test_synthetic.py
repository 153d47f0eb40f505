import numpy as np
import pytest

from foreshard.lab.synthetic import KINDS, synthesise


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_records_come_from_the_known_rates(kind):
    made = synthesise(kind, 60, 6, 4)
    frame = made.records
    cost = np.where(frame["request_type"] == "write", 2.0, 1.0)
    key = frame["partitionable_key"].str[-5:].astype(int).to_numpy()
    spent = np.bincount(key, weights=cost, minlength=60)
    spread = np.sqrt((made.sigma**2).sum(axis=1))
    z = (spent - made.mean.sum(axis=1)) / np.maximum(spread, 1e-9)
    assert np.abs(z).max() < 5
    assert z.std() == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_same_seed_gives_the_same_log(kind):
    one, same, other = (synthesise(kind, 30, 4, seed) for seed in (1, 1, 2))
    assert one.records.equals(same.records)
    assert not np.array_equal(one.mean, other.mean)


def test_keys_of_a_clump_are_accessed_in_one_session():
    frame = synthesise("groups", 40, 5, 1).records
    sizes = frame.groupby("session_id")["partitionable_key"].nunique()
    assert set(sizes) == {1, 2}
    assert (sizes == 2).mean() == pytest.approx(0.5, abs=0.1)


def test_a_log_may_have_a_single_key():
    assert synthesise("diurnal", 1, 3, 0).mean.shape == (1, 72)
