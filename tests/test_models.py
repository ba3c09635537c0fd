import pytest
import torch
from torch import nn

from fedlps import models
from fedlps.errors import InputError
from fedlps.trace import derive

CASES = [
    ("vgg11", (3, 32, 32), 10, 9_231_114, [64, 128, 256, 256, 512, 512, 512, 512]),
    ("vgg13", (3, 32, 32), 100, 9_462_180, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
    ("vgg16", (3, 64, 64), 200, 15_132_936, [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
]


@pytest.mark.parametrize(("name", "shape", "classes", "size", "units"), CASES)
def test_vgg(name: str, shape: tuple[int, ...], classes: int, size: int, units: list[int]) -> None:
    module = models.build(name, shape, classes, {})
    program = derive(module, shape)
    assert program.size == size
    assert [group.units for group in program.groups] == units
    assert program.obstacle is None
    assert program.batch_statistics
    kinds = [step.kind for step in program.steps]
    assert kinds.count("maxpool") == 5
    assert kinds[:3] == ["conv", "norm", "relu"]
    assert kinds[-2:] == ["flatten", "linear"]
    norms = [part for part in module if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == len(units)
    assert not any(norm.track_running_stats for norm in norms)


def test_a_norm_sees_its_batch_in_evaluation_too() -> None:
    module = models.build("vgg11", (3, 32, 32), 10, {}).eval()
    samples = torch.randn(4, 3, 32, 32)
    assert not torch.allclose(module(samples)[:2], module(samples[:2]), atol=1e-3)


def test_samples_too_small_for_the_pools() -> None:
    with pytest.raises(InputError, match=r"vgg11 cannot be built for samples of shape \(1, 28, 28\)"):
        models.build("vgg11", (1, 28, 28), 10, {})
