"""What travels, what it weighs, and what stays with the client."""

import numpy
import torch

from fedlps.recipe import download, state, upload
from tests.recipe.federations import costs_of, federation, outcome_of, round_of, submodels


def test_residuals_are_the_held_entries_of_what_changed():
    fed = federation()
    round_ = round_of(fed, clients=(1, 2))
    trained = [torch.arange(35, dtype=torch.float64), torch.full((35,), 2.0, dtype=torch.float64)]
    outcome = outcome_of(fed, round_, models=submodels(fed, [((1, 2), trained[0]), ((0, 1, 3), trained[1])]))
    got = upload.held_entries()(fed, outcome).residuals
    for row, (units, vector) in enumerate(zip(((1, 2), (0, 1, 3)), trained, strict=True)):
        change = round_.global_parameters - vector
        weight, bias, output, last = change.split([16, 4, 12, 3])
        kept = list(units)
        want = torch.cat([weight.view(4, 4)[kept].flatten(), bias[kept], output.view(3, 4)[:, kept].flatten(), last])
        assert torch.equal(got.parameters[row, : len(want)], want)
        assert not got.parameters[row, len(want) :].any()
    assert torch.equal(got.kept, outcome.result.submodels.kept)


def test_only_what_travels_is_uploaded():
    """A mask of entries beside the units: the residuals are those of both, every entry a unit of its own."""
    fed = federation()
    round_ = round_of(fed, clients=(1, 2))
    zero = torch.zeros(35, dtype=torch.float64)
    outcome = outcome_of(fed, round_, models=submodels(fed, [((1, 2), zero), ((0, 1, 2, 3), zero)]))
    mask = torch.zeros(35, dtype=torch.bool)
    mask[[0, 4, 5, 34]] = True
    got = upload.held_entries(lambda _fed, _outcome, position: mask if position == 0 else None)(fed, outcome)
    assert got.positions == (0, 1)
    assert got.residuals.kept[0, :4].tolist() == [4, 5, 34, -1], "entry 0 belongs to unit 0, which is not held"
    assert got.residuals.parameters[0, :3].tolist() == round_.global_parameters[[4, 5, 34]].tolist()
    assert got.residuals.kept[1].tolist() == list(range(35))


def test_bytes_of_a_submodel_and_its_pattern():
    """Two of four units: 2 x 4 weights + 2 biases + 3 x 2 weights + 3 biases = 19 entries; 4 units are 1 byte."""
    fed = federation()
    round_ = round_of(fed, clients=(0, 1), ratios=(0.5, 1.0))
    assert [cost.bytes_up for cost in costs_of(fed, round_, pattern_sent=True)] == [4 * 19 + 1, 4 * 35 + 1]
    assert [cost.bytes_up for cost in costs_of(fed, round_, pattern_sent=False)] == [4 * 19, 4 * 35]
    assert [cost.bytes_down for cost in costs_of(fed, round_, pattern_sent=True)] == [4 * 35] * 2


def test_the_cost_of_every_client_by_hand():
    """9 samples in batches of 4 are 3 full batches in the paper's count; 1 epoch."""
    fed = federation()
    round_ = round_of(fed, clients=(0, 1), ratios=(0.5, 1.0), capabilities=(0.25, 1.0))
    half, full = costs_of(fed, round_, pattern_sent=True)
    assert half.flops_paper == 3 * ((2 * 2 * 4 + 4) + (2 * 3 * 4 + 3)) * 4 * 3
    assert full.flops_paper == 3 * ((2 * 4 * 4 + 4) + (2 * 3 * 4 + 3)) * 4 * 3
    assert half.flops_executed == (2 * 2 * 4 * 2 + 2 * 3 * 2 * 3) * 9
    assert full.flops_executed == (2 * 4 * 4 * 2 + 2 * 3 * 4 * 3) * 9
    assert half.seconds == half.flops_paper / (727e9 * 0.25) + half.bytes_up / 14e6
    assert full.seconds == full.flops_paper / 727e9 + full.bytes_up / 14e6


def test_only_clients_that_count_keep_their_state():
    fed = federation()
    round_ = round_of(fed, clients=(2, 0, 3, 1))
    declared = (state.redundancies(download.IMPORTANCE),)
    fed.store.put_client(0, download.IMPORTANCE, {"redundancy": numpy.full(4, 7.0)})
    state.keep(fed, outcome_of(fed, round_, diverged=[1], dropped=[2]), declared)
    got = {client: arrays["redundancy"].tolist() for (client, _), arrays in fed.store.clients.items()}
    assert got == {2: [0.0] * 4, 0: [7.0] * 4, 1: [3.0] * 4}
