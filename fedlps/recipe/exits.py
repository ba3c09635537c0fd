"""A chain with several exits: how deep a client's part of it is, and what it learns from its exits."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from fedlps.engine.plan import Hold, Plan
from fedlps.errors import InputError
from fedlps.program import Program, Step
from fedlps.recipe.download import Download
from fedlps.recipe.federation import Federation, Round
from fedlps.recipe.layer_entries import entries_of
from fedlps.recipe.objective import Objective

BODY, HEADS = "body", "heads"
POOLS = ("maxpool", "avgpool")


class Exits(nn.Module):
    """A chain whose blocks each end at an exit; the outputs of all of them, the last the chain's own.

    blocks: of steps. heads: of all blocks but the last; a head averages over positions, if there are any, and maps to
    the classes.
    """

    def __init__(self, blocks: list[list[nn.Module]], heads: list[nn.Module]) -> None:
        super().__init__()
        self.body = nn.ModuleList(nn.Sequential(*block) for block in blocks)
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs (batch, classes), exit by exit."""
        outputs = []
        for number, block in enumerate(self.body):
            inputs = block(inputs)
            outputs.append(self.heads[number](inputs) if number < len(self.heads) else inputs)
        return tuple(outputs)


def with_exits(module: nn.Module, program: Program) -> nn.Module:
    """The chain with an exit after each pooling step, or after each hidden layer if there are fewer than two pools.

    What directly follows without weights belongs to the block; where only the output layer follows, that is the exit.
    InputError if the module is no chain, or has but one exit.
    """
    if program.obstacle is not None:
        raise InputError(f"model: exits need a chain, but {program.obstacle}")
    if len(program.exits) > 1:
        raise InputError(f"model: got {len(program.exits)} exits already, expected one")
    edges = _edges(program.steps)
    if not edges:
        raise InputError("model: got no depths, expected two pooling steps or two hidden layers at least")
    modules = [_module(module, program, step) for step in program.steps]
    blocks = [modules[first:last] for first, last in zip([0, *edges], [*edges, len(modules)], strict=True)]
    return Exits(blocks, [_head(program.steps[edge - 1].shape, program.classes) for edge in edges])


def depths(program: Program) -> int:
    """How many exits a module of `with_exits` has."""
    return 1 + max(_block(layer.name) for layer in program.layers if layer.name.startswith(BODY))


def depth_of(program: Program, capability: float) -> int:
    """The largest depth whose blocks hold at most this share of the parameters, at least 1; heads do not count."""
    sizes = [int(_up_to(program, depth, heads=False).sum()) for depth in range(1, depths(program) + 1)]
    fitting = [depth for depth, size in enumerate(sizes, 1) if size <= capability * sizes[-1] + 1e-9]
    return max(fitting, default=1)


def leading_blocks() -> Download:
    """Blocks and heads up to the depth that a client's capability allows."""

    def holds(federation: Federation, round_: Round) -> tuple[Hold, ...]:
        chosen = [depth_of(federation.program, float(speed)) for speed in round_.capabilities]
        return tuple(
            Hold(federation.all_counts, federation.all_units, up_to(federation.program, depth), depth)
            for depth in chosen
        )

    return holds


def up_to(program: Program, depth: int) -> torch.Tensor:
    """(P,) bool: the entries of the blocks and heads up to a depth."""
    return _up_to(program, depth, heads=True)


def within_depth(federation: Federation, parameters: torch.Tensor, speed: float) -> torch.Tensor:
    """The parameters (P,) up to the depth that a capability allows, 0 elsewhere: exits of zeros never change the mean's
    arg max.
    """
    program = federation.program
    return torch.where(up_to(program, depth_of(program, speed)), parameters, 0)


def mutual(inner: Objective, ramp: float) -> Objective:
    """Exits learn from each other, by a weight that rises to 1 over this share of the rounds."""

    def plan(federation: Federation, round_: Round, holds: tuple[Hold, ...]) -> Plan:
        weight = ramped(round_.number, ramp * federation.config.rounds)
        given = inner(federation, round_, holds)
        return replace(given, jobs=tuple(replace(job, mutual=weight) for job in given.jobs))

    return plan


def ramped(number: int, length: float) -> float:
    """exp(-5 (1 - min(r / length, 1))^2) in the round r, from 0."""
    return math.exp(-5 * (1 - min(number / length, 1)) ** 2)


def _edges(steps: tuple[Step, ...]) -> list[int]:
    """The steps before which a block ends: behind pools, or else hidden layers, and the weightless that follow."""
    weighted = [number for number, step in enumerate(steps) if step.kind in ("conv", "linear")]
    pools = [number for number, step in enumerate(steps) if step.kind in POOLS]
    edges = []
    for place in pools if len(pools) >= 2 else weighted[:-1]:
        edge = place + 1
        while steps[edge].kind in ("norm", "relu", *POOLS):
            edge += 1
        if sum(number >= edge for number in weighted) > 1 and edge not in edges:
            edges.append(edge)
    return edges


def _module(module: nn.Module, program: Program, step: Step) -> nn.Module:
    if step.layer is not None:
        layer = program.layers[step.layer]
        return module.get_submodule(layer.gate if step.kind == "norm" else layer.name)
    match step.kind:
        case "relu":
            return nn.ReLU()
        case "maxpool":
            return nn.MaxPool2d(step.kernel)
        case "avgpool":
            return nn.AvgPool2d(step.kernel)
        case _:
            return nn.Flatten()


def _head(shape: tuple[int, ...], classes: int) -> nn.Module:
    linear = nn.Linear(shape[0], classes)
    return linear if len(shape) == 1 else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


def _up_to(program: Program, depth: int, *, heads: bool) -> torch.Tensor:
    places = (BODY, HEADS) if heads else (BODY,)
    kept = [layer for layer in program.layers if layer.name.split(".")[0] in places and _block(layer.name) < depth]
    return entries_of(program, kept)


def _block(name: str) -> int:
    """The number of the block or head that a layer belongs to, from 0."""
    return int(name.split(".")[1])
