"""A federation of four clients on random images, a store in memory, and an executor that notes what it is asked."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy
import torch

from fedlps.cost import LocalCost
from fedlps.data import Split
from fedlps.engine.plan import Hold
from fedlps.engine.result import LocalResult, Submodels
from fedlps.methods import METHODS
from fedlps.models import ZOO, chain
from fedlps.program import initial_parameters
from fedlps.recipe import accounting, objective
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.run.resolve import resolve
from fedlps_kernels import gather_weights
from tests.engine.cases import executor_of, first_units, samples

SHAPE = (1, 2, 2)
STEPS = (["flatten"], ["linear", 4], ["relu"], ["linear", 3])  # 4 units to thin, 35 parameters
CLASSES = 3


class MemoryStore:
    """What a run's store promises the parts, without files."""

    def __init__(self) -> None:
        self.clients: dict[tuple[int, str], dict[str, numpy.ndarray]] = {}
        self.tensors: dict[str, numpy.ndarray] = {}

    def get_client(self, client, part):
        return copy.deepcopy(self.clients.get((client, part)))

    def put_client(self, client, part, arrays):
        self.clients[client, part] = copy.deepcopy(dict(arrays))

    def delete_client(self, client, part):
        self.clients.pop((client, part), None)

    def get_tensor(self, name):
        return copy.deepcopy(self.tensors.get(name))

    def put_tensor(self, name, array):
        self.tensors[name] = array.copy()


class Noting:
    """Passes everything on, and notes for every evaluation (number of models, samples, part)."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.asked: list[tuple[int, list[list[int]], str]] = []

    def train(self, *arguments):
        return self.executor.train(*arguments)

    def evaluate(self, models, own, part):
        self.asked.append((len(models), [indices.tolist() for indices in own], part))
        return self.executor.evaluate(models, own, part)


def federation(overrides: dict[str, object] | None = None, *, clients: int = 4, method: str = "fedlps") -> Federation:
    """Each client has 9 training and 1 validation sample of few classes, and 2 test samples of each; all is float64."""
    given = {
        "clients": clients, "fraction": 1.0, "rounds": 10, "epochs": 1, "batch": 4, "split.shards_per_client": 1,
        "split.shard_size": 10, "split.test_per_class": 2, **(overrides or {}),
    }  # fmt: skip
    config = resolve("digits", given, method, {name: recipe.parameters for name, recipe in METHODS.items()}, ZOO)
    data = samples(SHAPE, CLASSES, 10 * clients)
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, data)
    arguments = {"shards_per_client": 1, "shard_size": 10}
    split = Split(data.labels, data.labels, CLASSES, "pathological", arguments, clients, 2, config.seed)
    return Federation(config, program, split, Noting(executor), MemoryStore(), torch.float64)


def round_of(
    fed: Federation, number: int = 0, clients: Sequence[int] = (0, 1, 2, 3), ratios: float | Sequence[float] = 1.0,
    capabilities: float | Sequence[float] = 1.0, parameters: torch.Tensor | None = None,
) -> Round:  # fmt: skip
    """A round of these clients; parameters: the initial ones if not given."""
    initial = torch.from_numpy(initial_parameters(fed.program, 0))
    return Round(
        number=number,
        lr=0.1,
        clients=numpy.array(clients, dtype=numpy.int64),
        training=tuple(fed.split.client(client).train for client in clients),
        capabilities=numpy.broadcast_to(numpy.asarray(capabilities, float), len(clients)),
        ratios=numpy.broadcast_to(numpy.asarray(ratios, float), len(clients)),
        global_parameters=initial if parameters is None else parameters,
    )


def submodels(fed: Federation, models: Sequence[tuple[Sequence[int], torch.Tensor]]) -> Submodels:
    """Submodels of full-width vectors; each with the hidden units it keeps."""
    layout = fed.layout
    counts = torch.tensor([[len(units)] for units, _ in models], dtype=torch.int32).reshape(-1, 1)
    kept = torch.full((len(models), fed.program.units), -1, dtype=torch.int32)
    for row, (units, _) in zip(kept, models, strict=True):
        row[: len(units)] = torch.tensor(units, dtype=torch.int32)
    size = max(layout.compact_sizes(counts).tolist(), default=0)
    if not models:
        return Submodels(kept, counts, torch.zeros((0, size), dtype=fed.dtype))
    flat = torch.stack([vector for _, vector in models])
    return Submodels(kept, counts, gather_weights(flat, kept, counts, layout, size))


def outcome_of(
    fed: Federation, round_: Round, *, models: Submodels | None = None, hits: Sequence[int] | None = None,
    diverged: Sequence[int] = (), dropped: Sequence[int] = (),
) -> Outcome:  # fmt: skip
    """What came of a round: positions that diverged or were dropped, hits of 9 samples seen per client."""
    number = len(round_.clients)
    if models is None:
        units = first_units(fed.program, fed.all_counts).tolist()
        models = submodels(fed, [(units, round_.global_parameters)] * number)
    flags = [numpy.isin(numpy.arange(number), positions) for positions in (diverged, dropped)]
    result = LocalResult(
        submodels=models,
        redundancy=torch.arange(number, dtype=torch.float64)[:, None] + torch.zeros(fed.program.units),
        losses=numpy.zeros(number),
        hits=numpy.array(hits if hits is not None else [5] * number),
        seen=numpy.full(number, 9),
        diverged=flags[0],
    )
    return Outcome(round_, result, costs_of(fed, round_, pattern_sent=True), flags[1])


def costs_of(fed: Federation, round_: Round, *, pattern_sent: bool) -> tuple[LocalCost, ...]:
    """What the round costs each client when it holds leading units."""
    holds = tuple(Hold(counts, first_units(fed.program, counts)) for counts in round_.counts(fed))
    plan = objective.cross_entropy()(fed, round_, holds)
    return accounting.Accounting(up=accounting.held_entries(pattern_sent))(fed, round_, plan)
