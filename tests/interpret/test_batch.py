"""Batches gathered from bytes, against the definition, to the bit."""

import pytest
import torch

pytest.importorskip("triton")

from fedlps_kernels.gather_batch import definition
from fedlps_kernels.gather_batch import triton as batch
from fedlps_kernels.tuning import PRECISIONS, Precision
from tests.interpret.layer import Layer, Shape, rounded
from tests.interpret.memory import guarded


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_matches_definition(channels: int, precision: Precision) -> None:
    shape = Shape((1, channels), 5, [5, 0, 3], [1, 1, 1], [channels] * 3, 6, 7)
    generator = torch.Generator().manual_seed(0)
    with guarded() as memory:
        layer = Layer(shape, precision, memory)
        images = torch.randint(256, (11, channels, 6, 7), generator=generator, dtype=torch.uint8)
        table = rounded(torch.randn(channels, 256, generator=generator, dtype=torch.float64), precision)
        indices = torch.randint(11, (3, 5), generator=generator)
        wanted = definition.gather_batch(images, table, indices, layer.samples)
        indices[1], indices[2, 3:] = -(2**40), 2**40  # beyond a client's samples: not read
        for programs in (1, 3, 7):
            outputs = layer.arena(layer.columns, shape.maps)
            given = memory.place(images), memory.place(table.float()), memory.place(indices), layer.samples, outputs
            batch.gather(*given, precision=precision, programs=programs)
            layer.expect(outputs, wanted)
            assert torch.equal(outputs.client(0)[..., :channels].double().permute(0, 3, 1, 2), wanted[0])
