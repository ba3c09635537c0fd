"""Norm, ReLU and pooling of unequal clients, each way, against plain torch in float64."""

from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("triton")

from torch.nn.functional import avg_pool2d, max_pool2d

from fedlps_kernels.arena import Arena
from fedlps_kernels.tuning import PRECISIONS, STAGES, Block, Precision
from fedlps_kernels.unit_norm import definition
from fedlps_kernels.unit_norm import triton as stage
from fedlps_kernels.unit_norm.triton import Norm, Pool
from tests.interpret.layer import Layer, Shape, rounded
from tests.interpret.memory import Memory, guarded


@dataclass(frozen=True)
class Case:
    """Channels are the layer's rows; its maps are the stage's inputs."""

    shape: Shape
    norm: bool = True
    relu: bool = True
    pool: Pool | None = None


ODD = Shape((19, 1), 3, [3, 0, 1, 2], [19, 3, 1, 0], [1, 1, 1, 1], 5, 7)
FLAT = Shape((5, 1), 33, [33, 1], [5, 2], [1, 1])
LONG = Shape((16, 1), 5, [5, 1, 3], [16, 1, 3], [1, 1, 1], 7, 5)
CASES = {
    "norm": Case(FLAT, relu=False),
    "norm_relu": Case(ODD),
    "norm_relu_max": Case(ODD, pool=Pool("max", 2, 2)),
    "norm_avg": Case(ODD, relu=False, pool=Pool("avg", 2, 3)),
    "relu_max": Case(ODD, norm=False, pool=Pool("max", 3, 3)),
    "relu": Case(FLAT, norm=False),
    "relu_avg": Case(ODD, norm=False, pool=Pool("avg", 5, 5)),
    "max": Case(ODD, norm=False, relu=False, pool=Pool("max", 2, 2)),
    "chunks": Case(LONG, pool=Pool("max", 2, 2)),
}


class Stage:
    """What a launch wants, in guarded memory, and what it should give."""

    def __init__(self, case: Case, precision: Precision, memory: Memory) -> None:
        layer = Layer(case.shape, precision, memory)
        self.case, self.layer, shape = case, layer, case.shape
        generator = torch.Generator().manual_seed(1)

        def drawn(*sizes: int) -> torch.Tensor:
            return rounded(torch.randn(sizes, generator=generator, dtype=torch.float64), precision)

        clients, widest = len(shape.samples), -(-shape.most[0] // 16) * 16
        self.inputs = drawn(clients, shape.room, shape.most[0], *shape.maps) + 3
        self.inputs = rounded(self.inputs.round(decimals=1), precision)  # ties within windows
        self.target = self.run(self.inputs[:, :1])[1].shape[3:]
        self.scale, self.shift = drawn(clients, shape.most[0]), drawn(clients, shape.most[0])
        self.gradient = drawn(clients, shape.room, shape.most[0], *self.target)
        # scale and shift behind the bias, in a buffer that is NaN elsewhere
        places = layer.packed
        places.vectors[:, 0, 1], places.vectors[:, 0, 2] = (
            torch.arange(clients) * 2 * widest + first for first in (0, widest)
        )
        self.places, self.size = places, clients * 2 * widest
        values = torch.full((self.size,), torch.nan, dtype=torch.float64)
        for client, rows in enumerate(shape.rows):
            for place, vector in zip(places.vectors[client, 0, 1:], (self.scale, self.shift), strict=True):
                values[place : place + rows] = vector[client, :rows]
        statistics = memory.nans(clients, widest), memory.nans(clients, widest)
        self.norm = Norm(*statistics, memory.place(values.to(layer.dtype)), places, 0) if case.norm else None
        self.given = layer.arena(layer.rows, shape.maps, self.inputs)

    def run(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of one shape without a norm: for the size of the outputs."""
        return inputs, self.pooled(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        pool = self.case.pool
        if pool is None:
            return values
        return (max_pool2d if pool.kind == "max" else avg_pool2d)(values, pool.kernel, pool.stride)

    def defined(self) -> list[torch.Tensor]:
        """Outputs, and the gradients of inputs, scale and shift, zeros beyond the counts."""
        leaves = [value.clone().requires_grad_() for value in (self.inputs, self.scale, self.shift)]
        values, (clients, room, *_) = leaves[0], self.inputs.shape
        if self.case.norm:
            values = definition.unit_norm(*leaves, self.layer.samples, self.layer.rows)
        values = values.relu() if self.case.relu else values
        outputs = self.pooled(values.flatten(0, 1)).unflatten(0, (clients, room))
        real = (torch.arange(room) < self.layer.samples[:, None])[..., None, None, None]
        real = real & (torch.arange(self.inputs.shape[2]) < self.layer.rows[:, None])[:, None, :, None, None]
        gradients = torch.autograd.grad(outputs, leaves, self.gradient * real, allow_unused=True)
        return [outputs.detach(), *gradients]

    def lists(self, memory: Memory) -> tuple[stage.Tiles, ...]:
        shape, rows = self.case.shape, self.layer.rows
        found = [
            stage.tiles_of(kind, rows, shape.most[0], shape.room, area)
            for kind, area in (
                ("sums", shape.height * shape.width),
                ("positions", self.target[0] * self.target[1]),
                ("positions", shape.height * shape.width),
            )
        ]
        place = memory.place
        return tuple(stage.Tiles(place(each.records), place(each.number), each.block, each.splits) for each in found)

    def results(self, memory: Memory, programs: int | None = None) -> tuple[Arena, Arena, torch.Tensor]:
        """Outputs, the inputs' gradient, and the buffer of those of scale and shift."""
        layer, case = self.layer, self.case
        sums, over_outputs, over_inputs = self.lists(memory)
        workspace = memory.nans(stage.partial_size(sums))
        outputs, to_inputs = layer.arena(layer.rows, self.target), layer.arena(layer.rows, case.shape.maps)
        gradient = layer.arena(layer.rows, self.target, self.gradient)
        vectors = memory.nans(self.size)
        what = {"norm": self.norm, "relu": case.relu, "pool": case.pool, "precision": layer.precision}
        if self.norm is not None:
            stage.statistics(self.given, layer.samples, self.norm, sums, workspace, programs=programs)
        stage.forward(self.given, layer.samples, outputs, over_outputs, **what, programs=programs)
        more = {"sums": vectors, "sum_tiles": sums, "workspace": workspace, "programs": programs}
        stage.backward(self.given, gradient, layer.samples, to_inputs, over_inputs, **what, **more)
        return outputs, to_inputs, vectors


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of few channels have sums of several chunks, the last ones empty for most clients."""
    monkeypatch.setitem(STAGES, "narrow", Block(32, 16, 1, 4, 1, chunk=64))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_matches_definition(case: Case, precision: Precision) -> None:
    with guarded() as memory:
        given = Stage(case, precision, memory)
        outputs, to_inputs, vectors = given.results(memory)
        wanted = given.defined()
        given.layer.expect(outputs, wanted[0])
        given.layer.expect(to_inputs, wanted[1])
        if case.norm:
            for client, rows in enumerate(case.shape.rows):
                wide = -(-rows // 16) * 16
                for place, want in zip(given.places.vectors[client, 0, 1:], wanted[2:], strict=True):
                    found = vectors[place : place + wide]
                    assert not found[rows:].any(), "pads are not zero"
                    given.layer.small(found[:rows] - want[client, :rows], want, "fp32")


@pytest.mark.parametrize("case", ["norm_relu_max", "chunks"])
def test_same_on_any_grid(case: str) -> None:
    with guarded() as memory:
        given = Stage(CASES[case], "fp32", memory)
        one, three, seven = (given.results(memory, programs) for programs in (1, 3, 7))
    for other in (three, seven):
        for got, want in zip(other, one, strict=True):
            pair = (each.data if isinstance(each, Arena) else each for each in (got, want))
            torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True)


def test_chunks_are_split() -> None:
    with guarded() as memory:
        assert Stage(CASES["chunks"], "fp32", memory).lists(memory)[0].splits == 3


@pytest.mark.parametrize("value", [0.1, -1e6])
def test_equal_values_give_exactly_the_shift(value: float) -> None:
    with guarded() as memory:
        given = Stage(CASES["norm"], "fp32", memory)
        given.given.client(0)[..., :5] = value
        outputs, _, vectors = given.results(memory)
    assert torch.equal(outputs.client(0)[..., :5], given.shift[0, :5].float().expand(33, 1, 1, 5))
    assert not vectors[:5].any(), "nothing is learned by the scale"


def test_not_a_number_shows() -> None:
    with guarded() as memory:
        given = Stage(CASES["relu_max"], "fp32", memory)
        given.given.client(0)[0, 1, 1, 2] = torch.nan
        outputs, _, _ = given.results(memory)
    assert outputs.client(0)[0, 0, 0, 2].isnan()


@pytest.mark.parametrize(("kind", "kernel", "stride"), [("max", 3, 2), ("avg", 0, 1), ("min", 2, 2)])
def test_refuses_pools(kind: str, kernel: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"^(kernel|kind): got .*, expected "):
        Pool(kind, kernel, stride)
