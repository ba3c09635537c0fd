"""HeteroFL: nested leading units, the scaler, and the plain mean over the holders."""

import numpy
import pytest
import torch
from torch import nn

from fedlps.cost import kept_rows, paper_flops, row_weights, submodel_weights
from fedlps.engine.cohort import cohort
from fedlps.engine.result import whole
from fedlps.errors import InputError
from fedlps.models import ZOO, chain
from fedlps.recipe.download import counts_at, end_groups
from fedlps.recipe.federation import Outcome
from fedlps.trace import derive
from tests.methods.widths import COSTS, FULL, aggregated, built, costs, kept, started
from tests.running import model_of, tiny


def test_the_mean_over_holders() -> None:
    fed, method = built("heterofl", (4, 4))
    _, bias, weight, *_ = aggregated(fed, method, started(fed, method, (1, 1 / 2, 1 / 4)), (2, 4, 8))
    assert bias.tolist() == pytest.approx([14 / 3, 3, 2, 2])
    assert weight[1, 1] == 3, "held by the first two"
    assert weight[0, 0] == pytest.approx(14 / 3)
    assert weight[3, 0] == 2, "of the first alone"
    bias = aggregated(fed, method, started(fed, method, (1 / 2, 1 / 4)), (4, 8))[1]
    assert bias.tolist() == [6, 4, 1, 1], "what nobody holds stays"
    uneven = started(fed, method, (1 / 2, 1 / 4), training=(numpy.arange(10), numpy.arange(30)))
    assert aggregated(fed, method, uneven, (4, 8))[1].tolist() == [6, 4, 1, 1], "however much data they have"


def test_submodels_are_nested() -> None:
    fed, method = built("heterofl", (4, 9))
    for number in (0, 3):
        units = kept(fed, method, started(fed, method, (1 / 16, 1 / 4, 1 / 2, 1), number))
        assert units == [[[*range(n)], [*range(m)]] for n, m in ((1, 1), (1, 2), (2, 4), (4, 9))]


def test_the_scaler_is_all_units_over_kept_ones() -> None:
    fed, method = built("heterofl", (4, 9), {"clip": 0})
    round_ = started(fed, method, (1, 1 / 2, 1 / 4))
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [job.scale for job in jobs] == [None, (2.0, 9 / 4), (4.0, 9 / 2)]
    assert [job.segments[0].clip for job in jobs] == [0, 5, 5]
    fed, method = built("heterofl", (4, 9), {"clip": 2})
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [job.segments[0].clip for job in jobs] == [2, 2, 2]
    fed, method = built("heterofl", (4, 9), scaler=False)
    jobs = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert [(job.scale, job.segments[0].clip) for job in jobs] == [(None, 0)] * 3


def test_the_cost_of_half_the_units() -> None:
    """4 -> 6 -> 3: rows alone in the paper's count, rows and columns in what runs; 9 samples count as 12."""
    fed, method = built("heterofl", (6,))
    half, full = costs(fed, method, started(fed, method, (1 / 2, 1)))
    assert (half.flops_paper, full.flops_paper) == (3 * 69 * 12, 3 * 93 * 12)
    assert (half.flops_executed, full.flops_executed) == (102 * 9, 204 * 9)
    assert half.bytes_up == half.bytes_down == 4 * (12 + 3 + 9 + 3)
    assert full.bytes_up == full.bytes_down == 4 * 51


def test_full_width_is_fedavg_and_less_is_not(tmp_path) -> None:
    """All clients have as many samples; the two means are summed in another order."""
    own, other = (tiny(tmp_path / name, {**FULL, "rounds": 3}, name) for name in ("heterofl", "fedavg"))
    numpy.testing.assert_allclose(model_of(own.directory), model_of(other.directory), rtol=1e-4, atol=1e-6)
    for name in COSTS:
        numpy.testing.assert_allclose(own.metrics[name], other.metrics[name])
    thin = tiny(tmp_path / "thin", {"rounds": 3}, "heterofl")
    assert not numpy.allclose(model_of(thin.directory), model_of(other.directory), atol=1e-3)
    assert not {"test_last", "test_best"} & set(thin.metrics)


class Thin(nn.Module):
    """The leading units of 4 -> 8 -> 8 -> 3 as a network of its own, its hidden layers scaled while it trains."""

    def __init__(self, first: int, second: int, scaled: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, first), nn.Linear(first, second), nn.Linear(second, 3)])
        self.scales = (8 / first, 8 / second) if scaled else (1, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = inputs.flatten(1)
        for layer, scale in zip(self.layers, self.scales, strict=False):
            values = layer(values)
            values = torch.relu(values * scale if self.training else values)
        return self.layers[-1](values)


def trained_alone(fed, start: torch.Tensor, batches, present: torch.Tensor | None, clip: float) -> torch.Tensor:
    """What plain torch makes of the leading 2 and 2 units, the logits of absent classes set to 0."""
    pieces = start.split([parameter.size for parameter in fed.program.parameters])
    given = [piece.view(entry.shape) for piece, entry in zip(pieces, fed.program.parameters, strict=True)]
    model = Thin(2, 2, True).double()
    with torch.no_grad():
        for entry, received in zip(model.parameters(), given, strict=True):
            entry.copy_(received[tuple(map(slice, entry.shape))])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=fed.config.weight_decay)
    for batch in batches:
        inputs, labels = (torch.from_numpy(values) for values in fed.executor.samples.batch(batch))
        logits = model(inputs)
        if present is not None:
            logits = logits.masked_fill(~present, 0)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_it_trains_the_thin_network_scaled_and_tests_it_unscaled(clip) -> None:
    """Against a network of torch's own modules, scaled behind its hidden layers as in the authors' code."""
    fed, method = built("heterofl", (8, 8), {"epochs": 2, "momentum": 0}, clip=clip)
    start = torch.linspace(-0.5, 0.6, fed.program.size, dtype=torch.float64).cos()
    round_ = started(fed, method, (1 / 4, 1), global_parameters=start)
    batches = cohort(0, 0, round_.clients, round_.training, epochs=2, batch=4)
    plan = method.objective(fed, round_, method.download(fed, round_))
    result = fed.executor.train(start, plan, batches)
    want = trained_alone(fed, start, batches.batches(0), None, clip)
    torch.testing.assert_close(result.submodels.parameters[0, : len(want)], want, rtol=1e-10, atol=1e-12)
    got = fed.executor.evaluate(whole(fed.program, start), [round_.training[0]], "train").losses
    inputs, labels = (torch.from_numpy(values) for values in fed.executor.samples.batch(round_.training[0]))
    plain = Thin(8, 8, False).double()
    nn.utils.vector_to_parameters(start, plain.parameters())
    assert got[0] == pytest.approx(nn.functional.cross_entropy(plain(inputs), labels, reduction="sum").item())


def test_absent_classes_are_left_out() -> None:
    fed, method = built("heterofl", (8, 8), {"epochs": 2, "momentum": 0}, clip=0, masked_ce=True)
    start = torch.linspace(-0.5, 0.6, fed.program.size, dtype=torch.float64).cos()
    round_ = started(fed, method, (1 / 4, 1 / 4, 1 / 4), global_parameters=start)
    batches = cohort(0, 0, round_.clients, round_.training, epochs=2, batch=4)
    holds = method.download(fed, round_)
    plan = method.objective(fed, round_, holds)
    result = fed.executor.train(start, plan, batches)
    labels = fed.executor.samples.labels
    present = [torch.isin(torch.arange(3), torch.from_numpy(labels[own])) for own in round_.training]
    assert sum(int(own.sum()) for own in present) < 9, "else the case shows nothing"
    alone = [trained_alone(fed, start, batches.batches(k), present[k], 0) for k in range(3)]
    for k, want in enumerate(alone):
        rows = torch.cat([torch.ones(16, dtype=torch.bool), present[k].repeat_interleave(2), present[k]])
        torch.testing.assert_close(result.submodels.parameters[k, :25][rows], want[rows], rtol=1e-10, atol=1e-12)
    outcome = Outcome(round_, result, method.accounting(fed, round_, plan), numpy.zeros(3, dtype=bool), plan, result)
    got = method.aggregation(fed, outcome, method.upload(fed, outcome))[-3:]
    for label in range(3):
        own = [float(want[22 + label]) for want, has in zip(alone, present, strict=True) if has[label]]
        assert float(got[label]) == pytest.approx(numpy.mean(own) if own else float(start[-3 + label]))
    for k, cost in enumerate(outcome.costs):
        assert cost.bytes_up == cost.bytes_down == 4 * (16 + 3 * int(present[k].sum()))
        whole_rows = 2 * (2 * 4 + 2 * 8 + 3 * 8) + 8 + 8 + 3
        assert cost.flops_paper == 3 * whole_rows * 24, "as without"


def test_the_widths_of_the_published_code() -> None:
    """Shares of the whole model's operations, by rows and by rows and columns: the specification's section 27."""
    channels = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    blocks = [[["maxpool", 2]] if c == "M" else [["conv", c, 3, 1, 1], ["norm"], ["relu"]] for c in channels]
    vgg11 = chain((3, 32, 32), [*(step for block in blocks for step in block), ["flatten"], ["linear", 10]])
    mnist = ZOO["mnist_cnn"]((1, 28, 28), 10)
    cases = (
        (derive(mnist, (1, 28, 28)), (0.5207, 0.2662, 0.1373, 0.1042), (0.3353, 0.1034, 0.0415, 0.0365)),
        (derive(vgg11, (3, 32, 32)), (0.5369, 0.3054, 0.1896, 0.1317), (0.3052, 0.1084, 0.0476, 0.0266)),
    )
    for program, rows, both in cases:
        dense = paper_flops(program, row_weights(program, counts_at(program, 1.0)))
        for level, by_rows, by_both in zip((1 / 2, 1 / 4, 1 / 8, 1 / 16), rows, both, strict=True):
            counts = counts_at(program, level, end_groups)
            assert paper_flops(program, row_weights(program, counts)) / dense == pytest.approx(by_rows, abs=5e-5)
            weights = submodel_weights(program, counts)
            thin = sum(
                layer.positions * (2 * inside + kept_rows(layer, counts))
                for layer, inside in zip(program.layers, weights, strict=True)
            )
            assert thin / dense == pytest.approx(by_both, abs=5e-5)


def test_ends_that_are_not_thinned() -> None:
    fed, method = built("heterofl", (4, 9), ends_full=True)
    assert kept(fed, method, started(fed, method, (1 / 4, 1))) == [[[0], [*range(9)]], [[*range(4)], [*range(9)]]]
    round_ = started(fed, method, (1 / 4,))
    (job,) = method.objective(fed, round_, method.download(fed, round_)).jobs
    assert job.scale == (4.0, 1.0)


@pytest.mark.parametrize("given", [{"method.clip": -1}, {"method.masked_ce": 3}, {"method.widths": [1]}])
def test_bad_parameters(tmp_path, given) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        tiny(tmp_path / "run", given, "heterofl")
