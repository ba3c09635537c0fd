"""What the tests of methods that hold fewer units share."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from fedlps.engine.result import Submodels
from fedlps.methods import METHODS
from fedlps.models import chain
from fedlps.recipe import Method
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps_kernels import gather_weights
from tests.engine.cases import executor_of, samples
from tests.recipe.federations import CLASSES, SHAPE, federation, outcome_of, round_of

FULL: dict[str, object] = {"capability.levels": [1.0]}
COSTS = ("test_global", "flops_paper", "flops_executed", "bytes_up", "bytes_down", "time_simulated")


def built(name: str, hidden: Sequence[int] = (4,), given: dict[str, object] | None = None, **parameters: object):
    """A federation of four clients on a network of these hidden units, and the method for it."""
    fed = federation(given, method=name)
    steps = [["flatten"], *(step for units in hidden for step in (["linear", units], ["relu"])), ["linear", CLASSES]]
    program, executor = executor_of(chain(SHAPE, steps), SHAPE, samples(SHAPE, CLASSES, 40))
    recipe = METHODS[name]
    return replace(fed, program=program, executor=executor), recipe.build(recipe.parameters(**parameters), fed.config)


def started(fed: Federation, method: Method, capabilities: Sequence[float], number: int = 0, **more: object) -> Round:
    """A round of the first clients, of these capabilities."""
    clients = list(range(len(capabilities)))
    round_ = round_of(fed, number, clients, capabilities=capabilities, parameters=torch.ones(fed.program.size).double())
    return replace(round_, **{"ratios": method.ratio.choose(fed, round_.clients, round_.capabilities), **more})


def kept(fed: Federation, method: Method, round_: Round) -> list[list[list[int]]]:
    """Per client and group, the units that are held."""
    holds = method.download(fed, round_)
    groups = [hold.units.split(list(fed.all_counts)) for hold in holds]
    return [[units[units >= 0].tolist() for units in own] for own in groups]


def trained_to(fed: Federation, method: Method, round_: Round, values: Sequence[float]) -> Outcome:
    """The outcome of a round in which all entries of a client's submodel come to one value."""
    holds = method.download(fed, round_)
    units = torch.stack([hold.units for hold in holds])
    counts = torch.tensor([hold.counts for hold in holds], dtype=torch.int32)
    flat = torch.tensor(values, dtype=torch.float64)[:, None].expand(-1, fed.program.size).contiguous()
    size = max(fed.layout.compact_sizes(counts).tolist())
    return outcome_of(
        fed, round_, models=Submodels(units, counts, gather_weights(flat, units, counts, fed.layout, size))
    )


def aggregated(fed: Federation, method: Method, round_: Round, values: Sequence[float]) -> list[torch.Tensor]:
    """The layers' parameters after a round that started from ones."""
    outcome = trained_to(fed, method, round_, values)
    flat = method.aggregation(fed, outcome, method.upload(fed, outcome))
    pieces = flat.split([parameter.size for parameter in fed.program.parameters])
    return [piece.view(parameter.shape) for piece, parameter in zip(pieces, fed.program.parameters, strict=True)]


def costs(fed: Federation, method: Method, round_: Round):
    """What the round costs each client."""
    return method.accounting(fed, round_, method.objective(fed, round_, method.download(fed, round_)))
