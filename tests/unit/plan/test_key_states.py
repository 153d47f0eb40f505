from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from foreshard.model.recent import CurrentShadow, RecentMove
from foreshard.plan.input.key_states import co_access_graph, current_shadows, key_states, leaving_shadows, longest_rest
from foreshard.settings import PlanSettings

NOW = datetime(2024, 3, 10, 8, tzinfo=UTC)
PLAN = PlanSettings(cooldown=timedelta(hours=20), no_return=timedelta(hours=24), settle_rest=timedelta(days=14))
PARTITIONS = {"alpha": 0, "beta": 1}
KEYS = ("a", "b")


def states_after(*moves):
    return key_states(moves, {"a": 0, "b": 1}, np.array([0, 0]), PARTITIONS, PLAN, NOW)


def moved(hours_ago, pending=False, key="a", source="beta", target="alpha"):
    return RecentMove(key, source, target, pending, NOW - timedelta(hours=hours_ago))


class TestKeyStates:
    def test_without_moves_every_key_may_move(self):
        states = states_after()
        assert states.movable.tolist() == states.rested.tolist() == [True, True]
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

    def test_a_moved_key_cools_down_rests_and_does_not_return(self):
        assert [states_after(moved(hours)).movable[0] for hours in (19, 20, 21)] == [False, False, True]
        assert [states_after(moved(hours)).last_source[0] for hours in (23, 24, 25)] == [1, 1, -1]
        assert [states_after(moved(24 * days)).rested[0] for days in (13, 14, 15)] == [False, False, True]

    def test_one_recent_move_among_older_ones_is_enough(self):
        states = states_after(moved(40), moved(1), moved(30))
        assert (states.movable[0], states.movable[1]) == (False, True)

    def test_moves_of_other_keys_are_ignored(self):
        assert states_after(moved(1, key="other")).movable.all()

    def test_moves_are_looked_up_as_far_back_as_the_longest_rest(self):
        assert longest_rest(PLAN) == timedelta(days=14)


class TestShadows:
    published = ((1, 1),)

    def indexed(self, *shadows, published=()):
        return current_shadows(shadows, published, KEYS, tuple(PARTITIONS), NOW - timedelta(hours=20))

    def shadow(self, key="a", target="beta", hours_ago=None, leaving=False):
        hour = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
        return CurrentShadow(f"{key}|{target}", key, target, "hot", hour, leaving)

    def test_a_new_shadow_is_not_removable_yet(self):
        assert [self.indexed(self.shadow(hours_ago=hours))[0].removable for hours in (19, 20, 21)] == [False, True, True]

    def test_a_shadow_that_a_person_requested_is_removable(self):
        (found,) = self.indexed(self.shadow())
        assert (found.shadow_id, found.key, found.partition, found.why, found.removable) == ("a|beta", 0, 1, "hot", True)

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
    pairs = pd.DataFrame({"key_a": ["a", "a"], "key_b": ["b", "other"], "weight": [6, 9]})

    def test_weights_are_per_hour_and_unknown_keys_are_left_out(self):
        neighbours, weights = co_access_graph(self.pairs, 3, KEYS).of(0)
        assert (neighbours.tolist(), weights.tolist()) == ([1], [2.0])

    def test_without_counted_hours_nothing_is_divided_by_zero(self):
        assert co_access_graph(self.pairs[:0], 0, KEYS).of(0)[0].tolist() == []
