"""The cost model on cases small enough to do by hand, and on the paper's own figures."""

import math
from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlps.cost import (
    Rates,
    Work,
    executed_flops,
    local_cost,
    local_seconds,
    paper_flops,
    pattern_bytes,
    relative_cost,
    row_weights,
    submodel_entries,
    submodel_weights,
)
from fedlps.program import Group, Layer, Parameter, Program

ONE_STEP = Work(samples=1, batch=1, epochs=1)
RATES = Rates()


def chain_program(*layers, plain=()):
    """A program from layers whose group i is the rows of layer i, the last of them the output."""
    groups = tuple(Group(layer.rows) for layer in layers[:-1])
    parameters, offset = [], 0
    for layer in layers:
        sizes = [layer.rows * layer.fan_in]
        sizes += [layer.rows for vector in (layer.bias, layer.scale, layer.shift) if vector is not None]
        for size in sizes:
            parameters.append(Parameter(f"{layer.name}.{offset}", offset, (size,)))
            offset += size
    for name, size in plain:
        parameters.append(Parameter(name, offset, (size,)))
        offset += size
    values = {name: numpy.zeros(size) for name, size in plain}
    return Program((1,), layers[-1].rows, tuple(layers), groups, tuple(parameters), values)


def linear(name, rows, columns, row_group, column_group, **rest):
    return Layer(
        name=name, kind="linear", row_group=row_group, column_group=column_group, rows=rows, columns=columns,
        spread=rest.pop("spread", 1), kernel=1, positions=1, reads_input=column_group < 0, weight=0,
        **({"bias": 0} | rest),
    )  # fmt: skip


LINEAR_CHAIN = chain_program(linear("hidden", 6, 4, 0, -1), linear("output", 3, 6, -1, 0))

# conv 10 k5 -> pool -> conv 20 k5 -> pool -> linear 50 -> linear 10, on 28 x 28
MNIST_CNN = chain_program(
    Layer("conv1", "conv", 0, -1, 10, 1, 1, 25, 24 * 24, True, 0, bias=0),
    Layer("conv2", "conv", 1, 0, 20, 10, 1, 25, 8 * 8, False, 0, bias=0),
    linear("linear1", 50, 20, 2, 1, spread=16),
    linear("linear2", 10, 50, -1, 2),
)


def test_a_linear_chain_by_hand_at_full_width():
    """Hidden 24 weights and 6 biases, output 18 and 3; the hidden layer has no input gradient."""
    assert paper_flops(LINEAR_CHAIN, row_weights(LINEAR_CHAIN, (6,))) == 2 * 24 + 6 + 2 * 18 + 3 == 93
    cost = local_cost(LINEAR_CHAIN, (6,), ONE_STEP, 1.0, RATES)
    assert (cost.flops_paper, cost.flops_executed) == (279, 2 * 48 + 3 * 36)


def test_a_linear_chain_by_hand_at_half_width():
    """The paper keeps all columns and all biases; executed are kept rows times kept columns."""
    assert row_weights(LINEAR_CHAIN, (3,)) == (12, 18)
    assert submodel_weights(LINEAR_CHAIN, (3,)) == (12, 9)
    cost = local_cost(LINEAR_CHAIN, (3,), ONE_STEP, 1.0, RATES)
    assert (cost.flops_paper, cost.flops_executed) == (3 * 69, 2 * 24 + 3 * 18)


def test_a_linear_chain_by_hand_with_an_elementwise_mask():
    """A method with its own masks counts their weights with the same two functions."""
    assert 3 * paper_flops(LINEAR_CHAIN, (12, 9)) == 153
    assert executed_flops(LINEAR_CHAIN, (24, 18)) == 204
    assert executed_flops(LINEAR_CHAIN, (12, 9)) == 102


def test_fedavg_on_mnist_costs_what_the_paper_says():
    everything = (10, 20, 50)
    fedavg = Work(samples=180, batch=32, epochs=5, pattern_sent=False)
    cost = local_cost(MNIST_CNN, everything, fedavg, 1.0, RATES)
    assert cost.flops_paper == 2_788_128_000
    assert cost.bytes_up == cost.bytes_down == 4 * 21_840
    assert cost.seconds == pytest.approx(2_788_128_000 / 727e9 + 87_360 / 14e6, rel=1e-15)


@pytest.mark.parametrize(
    ("ratio", "row_flops", "entries"),
    [
        (1, 968_100, 21_840),
        (1 / 2, 488_100, 5_675),
        (1 / 4, 233_380, 1_409),
        (1 / 8, 104_740, 346),
        (1 / 16, 70_820, 143),
    ],
)
def test_widths_of_the_paper_on_mnist(ratio, row_flops, entries):
    counts = MNIST_CNN.counts(ratio)
    assert paper_flops(MNIST_CNN, row_weights(MNIST_CNN, counts)) == row_flops
    assert submodel_entries(MNIST_CNN, counts) == entries


def test_the_upload_is_values_and_a_bit_per_thinned_unit_of_all_groups_together():
    sent = Work(samples=180, batch=32, epochs=5)
    assert pattern_bytes(MNIST_CNN) == 10  # 80 units
    assert pattern_bytes(LINEAR_CHAIN) == 1  # 6 units
    assert local_cost(MNIST_CNN, (5, 10, 25), sent, 1.0, RATES).bytes_up == 4 * 5_675 + 10
    assert local_cost(MNIST_CNN, (5, 10, 25), replace(sent, pattern_sent=False), 1.0, RATES).bytes_up == 4 * 5_675


def test_a_layer_without_bias_has_none_of_its_operations_or_entries():
    program = chain_program(linear("hidden", 6, 4, 0, -1, bias=None), linear("output", 3, 6, -1, 0))
    assert paper_flops(program, row_weights(program, (6,))) == 93 - 6
    assert submodel_entries(program, (3,)) == 12 + 9 + 3


def test_a_norm_travels_but_costs_no_operations():
    program = chain_program(linear("hidden", 6, 4, 0, -1, scale=0, shift=0), linear("output", 3, 6, -1, 0))
    assert paper_flops(program, row_weights(program, (6,))) == 93
    assert submodel_entries(program, (3,)) == 12 + 3 * 3 + 9 + 3


def test_what_belongs_to_no_layer_always_travels():
    program = chain_program(linear("hidden", 6, 4, 0, -1), linear("output", 3, 6, -1, 0), plain=[("gain", 7)])
    assert submodel_entries(program, (3,)) == 12 + 3 + 9 + 3 + 7
    assert submodel_entries(program, (6,)) == program.size


@pytest.mark.parametrize(("samples", "counted"), [(1, 32), (32, 32), (33, 64), (180, 192)])
def test_the_paper_counts_short_batches_as_full_but_they_are_executed_short(samples, counted):
    one = local_cost(LINEAR_CHAIN, (6,), ONE_STEP, 1.0, RATES)
    cost = local_cost(LINEAR_CHAIN, (6,), Work(samples, batch=32, epochs=2), 1.0, RATES)
    assert cost.flops_paper == one.flops_paper * 2 * counted
    assert cost.flops_executed == one.flops_executed * 2 * samples


def test_seconds_by_hand():
    rates = Rates(flops_per_second=100.0, bytes_per_second=10.0, alpha=3.0)
    assert local_seconds(50, 20, capability=0.25, rates=rates) == 50 / 25 + 3 * 20 / 10


def test_the_relative_cost_is_one_at_full_width_on_the_fastest_device():
    work = Work(samples=180, batch=32, epochs=5)
    assert relative_cost(MNIST_CNN, (10, 20, 50), work, 1.0, RATES) == 1.0
    slow = relative_cost(MNIST_CNN, (10, 20, 50), work, 0.5, RATES)
    full = local_cost(MNIST_CNN, (10, 20, 50), work, 1.0, RATES)
    assert slow == pytest.approx((2 * full.flops_paper / 727e9 + full.bytes_up / 14e6) / full.seconds, rel=1e-14)


def test_counts_stay_exact_beyond_the_range_of_floats():
    wide = chain_program(linear("hidden", 2**31 + 1, 2**31 - 1, 0, -1), linear("output", 3, 2**31 + 1, -1, 0))
    cost = local_cost(wide, (2**31 + 1,), ONE_STEP, 1.0, RATES)
    assert cost.flops_executed == 4 * (2**62 - 1) + 6 * 3 * (2**31 + 1)


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 500), st.integers(1, 64))
def test_a_narrower_submodel_never_costs_more(first, second, samples, batch):
    work = Work(samples, batch, epochs=2)
    low, high = (local_cost(MNIST_CNN, MNIST_CNN.counts(ratio), work, 0.5, RATES) for ratio in sorted((first, second)))
    assert low.flops_paper <= high.flops_paper
    assert low.flops_executed <= high.flops_executed <= high.flops_paper
    assert low.bytes_up <= high.bytes_up
    assert low.seconds <= high.seconds
    assert math.isfinite(low.seconds)
