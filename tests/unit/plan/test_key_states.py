from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.plan.input.key_states import co_access_graph, current_shadows, key_states, leaving_shadows

NOW = datetime(2024, 3, 10, 8, tzinfo=UTC)
PARTITIONS = {"alpha": 0, "beta": 1}
KEYS = ("a", "b")


def states_after(*moves):
    return key_states(moves, {"a": 0, "b": 1}, np.array([0, 0]), PARTITIONS, NOW)


def moved(hours_ago, pending=False, key="a", source="beta", target="alpha"):
    return RecentMove(key, source, target, pending, NOW - timedelta(hours=hours_ago))


class TestKeyStates:
    def test_without_moves_every_key_may_move(self):
        states = states_after()
        assert states.movable.tolist() == [True, True]
        assert states.idle_hours.tolist() == [np.inf, np.inf]
        assert states.under_way.tolist() == [False, False]
        assert (states.primary.tolist(), states.last_source.tolist()) == ([0, 0], [-1, -1])

    def test_a_pending_move_counts_as_done_and_its_key_does_not_move_again(self):
        states = states_after(moved(0, pending=True, source="alpha", target="beta"))
        assert states.primary.tolist() == [1, 0]
        assert states.movable.tolist() == [False, True]
        assert states.under_way.tolist() == [True, False]

    def test_a_pending_move_to_an_unregistered_partition_leaves_the_key_where_it_is(self):
        states = states_after(moved(0, pending=True, target="gone"))
        assert states.primary.tolist() == [0, 0]
        assert states.under_way.tolist() == [True, False]

    def test_the_hours_since_the_last_move_count_and_its_source_is_known_for_a_day(self):
        assert [states_after(moved(hours)).idle_hours[0] for hours in (1, 100)] == [1.0, 100.0]
        assert states_after(moved(40), moved(30), moved(1)).idle_hours.tolist() == [1.0, np.inf]
        assert [states_after(moved(hours)).last_source[0] for hours in (23, 24, 25)] == [1, 1, -1]
        assert states_after(moved(1)).movable.tolist() == [True, True]

    def test_moves_of_other_keys_are_ignored(self):
        assert np.isinf(states_after(moved(1, key="other")).idle_hours).all()


class TestShadows:
    published = ((1, 1),)

    def indexed(self, *shadows, published=()):
        return current_shadows(shadows, published, KEYS, tuple(PARTITIONS), NOW)

    def shadow(self, key="a", target="beta", hours_ago=None, leaving=False):
        hour = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
        return CurrentShadow(f"{key}|{target}", key, target, "hot", hour, leaving)

    def test_the_age_of_a_shadow_counts_from_the_hour_of_its_plan(self):
        assert [self.indexed(self.shadow(hours_ago=hours))[0].idle_hours for hours in (1, 20)] == [1.0, 20.0]

    def test_a_shadow_that_a_person_requested_is_as_if_it_had_always_been(self):
        (found,) = self.indexed(self.shadow())
        assert (found.shadow_id, found.key, found.partition, found.why, found.idle_hours) == ("a|beta", 0, 1, "hot", np.inf)

    def test_a_published_shadow_without_a_record_counts_and_a_leaving_one_does_not(self):
        (found,) = self.indexed(published=self.published)
        assert (found.shadow_id, found.key, found.partition) == ("b|beta", 1, 1)
        assert self.indexed(self.shadow("b", leaving=True), published=self.published) == ()

    def test_shadows_of_unknown_keys_and_partitions_are_ignored(self):
        assert self.indexed(self.shadow("other"), self.shadow(target="gone")) == ()

    def test_leaving_shadows_are_index_pairs(self):
        shadows = [self.shadow(leaving=True), self.shadow("b"), self.shadow("other", leaving=True)]
        assert leaving_shadows(shadows, KEYS, tuple(PARTITIONS)) == {(0, 1)}


class TestCoAccess:
    pairs = pd.DataFrame({"key_a": ["a", "a"], "key_b": ["b", "other"], "weight": [36, 9]})

    def test_weights_are_per_hour_without_what_chance_explains_and_unknown_keys_are_left_out(self):
        neighbours, weights = co_access_graph(self.pairs, 3, KEYS).of(0)
        assert (neighbours.tolist(), weights.tolist()) == ([1], [(36 - 2 * 6) / 3])

    def test_a_pair_that_was_seen_a_few_times_has_no_weight(self):
        few = self.pairs.assign(weight=4)
        assert not co_access_graph(few, 3, KEYS).of(0)[0].tolist()

    def test_without_counted_hours_nothing_is_divided_by_zero(self):
        assert co_access_graph(self.pairs[:0], 0, KEYS).of(0)[0].tolist() == []
