"""P-UCBV: every branch on cases small enough to do by hand, and what must hold after any history."""

import dataclasses
import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlps.bandit import Bandit, BanditParameters, Partition
from fedlps.randomness import Purpose, stream

PARAMETERS = BanditParameters(xi=10.0)
SEED, CLIENT = 3, 4


def utility(accuracy):
    return 10 - 20 / (1 + math.exp(0.35 * accuracy))


def bandit(*partitions, epsilon=1.0, decisions=1, previous=math.nan):
    return Bandit(tuple(Partition(*partition) for partition in partitions), epsilon, 0.5, decisions, previous)


def update(state, parameters=PARAMETERS, *, ratio, accuracy=0.5, previous=0.5, cost=1.0, **rest):
    return state.update(parameters, SEED, CLIENT, ratio=ratio, accuracy=accuracy, previous=previous, cost=cost, **rest)


def spans(state):
    return [(partition.low, partition.high, partition.rewards) for partition in state.partitions]


def test_start_draws_the_partition_first_then_the_position():
    parameters = BanditParameters(xi=10.0, arms=(0.5, 1.0), initial=4)
    state = Bandit.start(parameters, SEED, CLIENT)
    assert spans(state) == [(0.5, 0.625, ()), (0.625, 0.75, ()), (0.75, 0.875, ()), (0.875, 1.0, ())]
    rng = stream(SEED, Purpose.RATIO, CLIENT, 0)
    low = 0.5 + 0.125 * rng.integers(4)
    assert state.ratio == low + 0.125 * rng.random()
    assert (state.epsilon, state.decisions) == (1.0, 1)
    assert math.isnan(state.previous)


def test_the_default_arms_are_five_equal_parts_of_zero_to_one():
    edges = [(partition.low, partition.high) for partition in Bandit.start(PARAMETERS, SEED, CLIENT).partitions]
    assert edges == [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)]


def test_a_reward_is_the_gain_in_utility_per_cost():
    state = update(bandit((0.0, 1.0)), ratio=0.0, accuracy=0.9, previous=0.2, cost=0.25)
    assert state.partitions[0].rewards == pytest.approx([(utility(0.9) - utility(0.2)) / 0.25])


def test_a_ratio_inside_splits_its_partition_and_both_halves_keep_the_rewards():
    state = update(bandit((0.0, 0.4, (7.0,)), (0.4, 1.0)), ratio=0.1)
    assert spans(state) == [(0.0, 0.1, (7.0, 0.0)), (0.1, 0.4, (7.0, 0.0)), (0.4, 1.0, ())]


def test_a_ratio_at_the_low_edge_does_not_split():
    state = update(bandit((0.0, 0.4), (0.4, 1.0)), ratio=0.4)
    assert spans(state) == [(0.0, 0.4, ()), (0.4, 1.0, (0.0,))]


@pytest.mark.parametrize(
    ("accuracy", "survives"),
    [(0.44, False), (0.46, True), (0.9, True)],
)
def test_a_drop_of_accuracy_by_more_than_delta_removes_the_smaller_ratios(accuracy, survives):
    state = update(bandit((0.0, 0.4), (0.4, 1.0)), ratio=0.1, accuracy=accuracy, previous=0.5)
    lows = [partition.low for partition in state.partitions]
    assert lows == ([0.0, 0.1, 0.4] if survives else [0.1, 0.4])


def test_a_drop_of_exactly_delta_removes_nothing():
    parameters = BanditParameters(xi=10.0, delta=-0.25)
    state = update(bandit((0.0, 1.0)), parameters, ratio=0.5, accuracy=0.25, previous=0.5)
    assert len(state.partitions) == 2


def test_a_ratio_at_the_low_edge_is_not_eliminated_by_a_drop():
    state = update(bandit((0.4, 1.0)), ratio=0.4, accuracy=0.0, previous=1.0)
    assert [(partition.low, partition.high) for partition in state.partitions] == [(0.4, 1.0)]


def test_the_top_of_the_range_belongs_to_the_last_partition_unsplit():
    state = update(bandit((0.0, 0.4), (0.4, 1.0)), ratio=1.0)
    assert spans(state) == [(0.0, 0.4, ()), (0.4, 1.0, (0.0,))]


@pytest.mark.parametrize(
    ("ratio", "rewarded"),
    [(0.05, 0), (0.25, 0), (0.3, 0), (0.5, 0), (0.625, 1), (0.9, 1), (1.0, 1)],
)
def test_outside_all_partitions_the_nearest_is_rewarded_unsplit_and_the_lower_of_two(ratio, rewarded):
    state = update(bandit((0.1, 0.25), (0.75, 0.9)), ratio=ratio)
    assert [len(partition.rewards) for partition in state.partitions] == [1 - rewarded, rewarded]


def test_a_gap_does_not_eliminate():
    state = update(bandit((0.1, 0.25), (0.75, 0.9)), ratio=0.5, accuracy=0.0, previous=1.0)
    assert [(partition.low, partition.high) for partition in state.partitions] == [(0.1, 0.25), (0.75, 0.9)]


def test_values_by_hand():
    state = bandit((0.0, 0.5, (1.0, 3.0)), (0.5, 1.0), epsilon=0.5)
    log = math.log(10 * (10 / 4) * 0.5)
    # mean 2 and population variance 1 of two rewards; no reward at all
    want = [2 + math.sqrt(0.5 * (1 + 2) * log / 12), math.sqrt(0.5 * 2 * log / 4)]
    assert state.values(PARAMETERS) == pytest.approx(want, rel=1e-14)


def test_the_logarithm_is_floored_at_zero():
    state = bandit((0.0, 0.5, (1.0, 3.0)), (0.5, 1.0), epsilon=1e-9)
    assert state.values(PARAMETERS) == [2.0, 0.0]


def test_the_largest_value_wins_and_its_partition_is_drawn_from():
    state = update(bandit((0.0, 0.5, (-5.0,)), (0.5, 1.0, (5.0,)), epsilon=1e-9, decisions=6), ratio=0.25)
    rng = stream(SEED, Purpose.RATIO, CLIENT, 6)
    assert rng.integers(1) == 0
    assert state.ratio == 0.5 + 0.5 * rng.random()
    assert (state.decisions, state.epsilon) == (7, 5e-10)


@pytest.mark.parametrize(("gap", "tied"), [(0.0, True), (4e-16, True), (4e-15, False)])
def test_ties_are_picked_from_in_order(gap, tied):
    """Three partitions without exploration: values are the means, the last `gap` above the first."""
    partitions = (0.0, 0.25, (0.25,)), (0.25, 0.5, (-9.0,)), (0.5, 1.0, (0.25 + gap,))
    seen = set()
    for decision in range(1, 40):
        state = update(bandit(*partitions, epsilon=1e-9, decisions=decision), ratio=0.25)
        rng = stream(SEED, Purpose.RATIO, CLIENT, decision)
        choices = [(0.0, 0.25), (0.5, 1.0)] if tied else [(0.5, 1.0)]
        low, high = choices[int(rng.integers(len(choices)))]
        assert state.ratio == low + (high - low) * rng.random()
        seen.add(low)
    assert seen == ({0.0, 0.5} if tied else {0.5})


def test_the_accuracy_becomes_the_previous_one_only_if_counted():
    state = bandit((0.0, 1.0), previous=0.7)
    assert update(state, ratio=0.5, accuracy=0.6).previous == 0.6
    assert update(state, ratio=0.5, accuracy=0.0, counted=False).previous == 0.7


@pytest.mark.parametrize(
    ("argument", "value"),
    [("cost", 0.0), ("cost", math.nan), ("accuracy", 1.5), ("accuracy", math.nan), ("previous", math.nan)],
)
def test_bad_input_names_argument_and_value(argument, value):
    with pytest.raises(ValueError, match=rf"^{argument}: got {value}, expected"):
        update(bandit((0.0, 1.0)), ratio=0.5, **{argument: value})


def test_arrays_that_do_not_fit_together_are_an_error():
    arrays = bandit((0.0, 1.0, (1.0,))).to_arrays() | {"pulls": numpy.array([2])}
    with pytest.raises(ValueError, match=r"^rewards: got 1, expected the sum of pulls, 2"):
        Bandit.from_arrays(arrays)


unit = st.floats(0, 1)
participations = st.lists(st.tuples(st.one_of(st.none(), unit), unit, unit, st.floats(0.01, 50)), max_size=25)
parameters_of_any_run = st.builds(
    BanditParameters,
    xi=st.floats(0.5, 1000),
    arms=st.sampled_from([(0.0, 1.0), (0.5, 1.0), (0.1, 0.3)]),
    initial=st.integers(1, 7),
    delta=st.floats(-0.5, 0.5),
)


@given(parameters_of_any_run, participations, st.integers(0, 5))
def test_what_holds_after_any_history(parameters, history, client):
    state = Bandit.start(parameters, SEED, client)
    for ratio, accuracy, previous, cost in history:
        before = state.to_arrays()
        used = state.ratio if ratio is None else ratio  # its own decision, or what a bound made of it
        arguments = {"ratio": used, "accuracy": accuracy, "previous": previous, "cost": cost}
        updated = state.update(parameters, SEED, client, **arguments)
        assert_same(before, state.to_arrays())
        assert_same(updated.to_arrays(), state.update(parameters, SEED, client, **arguments).to_arrays())
        state = updated

        edges = [edge for partition in state.partitions for edge in (partition.low, partition.high)]
        assert edges == sorted(edges)
        assert all(partition.low < partition.high for partition in state.partitions)
        assert parameters.arms[0] <= edges[0]
        assert edges[-1] <= parameters.arms[1]
        assert any(partition.low <= state.ratio <= partition.high for partition in state.partitions)
        assert all(math.isfinite(value) for value in state.values(parameters))
    assert state.decisions == len(history) + 1
    assert state.epsilon == 0.5 ** len(history)


@given(parameters_of_any_run, participations)
def test_the_state_survives_the_store_bit_for_bit(parameters, history):
    state = Bandit.start(parameters, SEED, CLIENT)
    for ratio, accuracy, previous, cost in history:
        used = state.ratio if ratio is None else ratio
        state = state.update(parameters, SEED, CLIENT, ratio=used, accuracy=accuracy, previous=previous, cost=cost)
    arrays = state.to_arrays()
    assert {array.dtype.name for array in arrays.values()} <= {"float64", "int64"}
    restored = Bandit.from_arrays(arrays)
    assert_same(arrays, restored.to_arrays())
    assert restored.partitions == state.partitions
    if history:
        assert restored == state  # before, `previous` is NaN, which equals nothing


def test_the_state_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        bandit((0.0, 1.0)).ratio = 0.3


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        numpy.testing.assert_array_equal(first[name], second[name], err_msg=name)
