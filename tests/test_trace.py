"""What is derived from a module: groups, spread, offsets, and which units may be thinned."""

import pytest
import torch
from torch import nn

from fedlps.errors import InputError
from fedlps.models import ZOO, build, chain
from fedlps.program import Program
from fedlps.trace import derive


class Residual(nn.Module):
    """Two branches that are added, so their convolutions share their units."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.activation = nn.GELU()
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        early = self.activation(self.first(inputs))
        late = torch.relu(self.second(early) + early)
        return self.head(torch.flatten(late, 1))


class Tied(nn.Module):
    """One layer used at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.inner(torch.relu(self.inner(torch.flatten(inputs, 1))))))


class Functional(nn.Module):
    """The MNIST network as people write it, with functions instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 10, 5)
        self.second = nn.Conv2d(10, 20, 5)
        self.hidden = nn.Linear(320, 50)
        self.head = nn.Linear(50, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        early = nn.functional.relu(nn.functional.max_pool2d(self.first(images), 2))
        late = torch.relu(nn.functional.max_pool2d(self.second(early), kernel_size=2))
        return self.head(self.hidden(late.view(late.size(0), -1)).relu())


class Branching(nn.Module):
    """Control flow on the data, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.inner(inputs.flatten(1))
        if hidden.sum() > 0:
            hidden = -hidden
        return self.head(hidden)


def groups(program: Program) -> list[tuple[int, int]]:
    return [(layer.row_group, layer.column_group) for layer in program.layers]


def test_chain_has_a_group_per_hidden_layer_and_a_whole_output() -> None:
    program = derive(ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28))
    assert program.obstacle is None
    assert groups(program) == [(0, -1), (1, 0), (2, 1), (-1, 2)]
    assert [layer.spread for layer in program.layers] == [1, 1, 16, 1]
    assert [layer.positions for layer in program.layers] == [576, 64, 1, 1]
    assert [layer.reads_input for layer in program.layers] == [True, False, False, False]
    assert [layer.reads_input for layer in derive(ZOO["mlp"]((1, 2, 2), 3), (1, 2, 2)).layers] == [True, False, False]
    assert program.size == 21_840
    assert program.classes == 10
    assert [step.input for step in program.steps] == list(range(-1, len(program.steps) - 1))


def test_nested_sequential_is_the_same_chain_as_the_flat_one() -> None:
    flat = ZOO["digits_cnn"]((1, 8, 8), 10)
    children = list(flat.children())
    nested = nn.Sequential(nn.Sequential(*children[:3]), nn.Sequential(nn.Sequential(*children[3:])))
    assert derive(nested, (1, 8, 8)).steps == derive(flat, (1, 8, 8)).steps


def test_functions_are_the_modules_that_do_the_same() -> None:
    functional, modules = derive(Functional(), (1, 28, 28)), derive(ZOO["mnist_cnn"]((1, 28, 28), 10), (1, 28, 28))
    assert functional.obstacle is None
    assert functional.steps == modules.steps
    assert groups(functional) == groups(modules)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, stride=1), nn.MaxPool2d(2, padding=1), nn.AvgPool2d((2, 1))])
def test_pooling_that_a_chain_does_not_have_still_lets_units_go(pool: nn.Module) -> None:
    outputs = pool(torch.zeros(1, 2, 8, 8)).numel()
    program = derive(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), pool, nn.Flatten(), nn.Linear(outputs, 2)), (1, 8, 8))
    assert program.obstacle is not None
    assert groups(program) == [(0, -1), (-1, 0)]


def test_norm_directly_behind_its_layer_belongs_to_it() -> None:
    program = derive(
        chain((3, 8, 8), [["conv", 6, 3, 1, 1], ["norm"], ["relu"], ["flatten"], ["linear", 4]]), (3, 8, 8)
    )
    layer = program.layers[0]
    assert program.obstacle is None
    assert program.batch_statistics
    assert (layer.scale, layer.shift, layer.gate) == (6 * 27 + 6, 6 * 27 + 12, "1")


def test_norm_behind_an_activation_keeps_its_units_whole() -> None:
    program = derive(
        chain((3, 8, 8), [["conv", 6, 3, 1, 1], ["relu"], ["norm"], ["flatten"], ["linear", 4]]), (3, 8, 8)
    )
    assert program.groups == ()
    assert program.obstacle is not None
    assert "BatchNorm2d" in program.obstacle


def test_added_branches_share_one_group() -> None:
    program = derive(Residual(), (1, 4, 4))
    assert [group.units for group in program.groups] == [4]
    assert groups(program) == [(0, -1), (0, 0), (-1, 0)]
    assert program.obstacle is not None


def test_layer_used_twice_is_not_thinned() -> None:
    program = derive(Tied(), (1, 2, 3))
    assert program.groups == ()
    assert program.obstacle is not None
    assert "shares its parameters" in program.obstacle


def test_untraceable_module_trains_at_full_width() -> None:
    program = derive(Branching(), (1, 2, 3))
    assert program.groups == ()
    assert len(program.layers) == 2
    assert program.obstacle is not None
    assert "torch.fx cannot trace it" in program.obstacle


@pytest.mark.parametrize(
    "layer", [nn.Sigmoid(), nn.Softmax(1), nn.Softplus(), nn.LayerNorm(5)], ids=lambda layer: type(layer).__name__
)
def test_units_before_what_moves_zero_are_kept_whole(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), layer, nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))
    program = derive(module, (1, 2, 2))
    assert [group.units for group in program.groups] == [6]
    assert groups(program) == [(-1, -1), (0, -1), (-1, 0)]


def test_grouped_convolution_keeps_its_channels_whole() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )
    program = derive(module, (1, 6, 6))
    assert program.groups == ()
    assert [layer.fan_in for layer in program.layers] == [9, 9, 16]


def test_activation_behind_the_output_does_not_thin_it() -> None:
    program = derive(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU()), (1, 2, 2))
    assert groups(program) == [(0, -1), (-1, 0)]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)), "running averages"),
        (nn.Sequential(nn.Flatten()), "without parameters"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "expected (batch, classes)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), "cannot take samples of shape (1, 4, 4)"),
    ],
)
def test_module_that_cannot_train_is_refused_in_one_line(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError) as caught:
        derive(module, (1, 4, 4))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deriving_leaves_the_module_in_its_mode() -> None:
    module = ZOO["mlp"]((1, 2, 2), 3).eval()
    derive(module, (1, 2, 2))
    assert not module.training


def test_unknown_model_and_parameter_name_what_is_allowed() -> None:
    with pytest.raises(InputError, match="allowed: digits_cnn"):
        build("mnist_cn", (1, 8, 8), 10, {})
    with pytest.raises(InputError, match=r"model\.width: mlp has no such parameter; allowed: hidden"):
        build("mlp", (1, 8, 8), 10, {"width": 3})
    with pytest.raises(InputError, match="cannot be built for samples of shape"):
        build("mnist_cnn", (1, 8, 8), 10, {})
