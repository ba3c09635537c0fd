"""The workload: clients of unequal ratios on images of their own, and what a loop over them leaves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy
import torch
from numpy.typing import NDArray
from torch import nn

from fedlps.cost import executed_flops, submodel_weights
from fedlps.data import Dataset, SampleStore
from fedlps.data.dataset import Samples
from fedlps.engine.cohort import Cohort, cohort
from fedlps.engine.plan import Hold, Job, Learned, Plan, Pull, Segment
from fedlps.engine.result import LocalResult, whole
from fedlps.models import mnist_cnn, vgg11
from fedlps.program import Program, initial_parameters
from fedlps.trace import derive
from fedlps_kernels import Layout, unit_abs_sum

RATIOS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
UNEQUAL = tuple(ratio for ratio in RATIOS for _ in range(2))
EQUAL = (1.0,) * 10
SEGMENT = Segment(lr=0.1, weight_decay=1.2e-6)  # of the preset mnist
MU = STRENGTH = 1.0  # objective.mu and objective.lambda


@dataclass(frozen=True)
class Case:
    """Everything a client loop needs; inputs and parameters in one floating type.

    inputs: (N, *shape), normalized; labels: (N,). parameters: (P,), what every client receives.
    """

    module: nn.Sequential
    program: Program
    layout: Layout
    store: SampleStore
    inputs: torch.Tensor
    labels: torch.Tensor
    parameters: torch.Tensor
    plan: Plan
    cohort: Cohort

    def batches(self, client: int) -> list[torch.Tensor]:
        """The sample indices of a client's steps."""
        return [torch.from_numpy(batch) for batch in self.cohort.batches(client)]


@dataclass(frozen=True)
class Trained:
    """One client after its round: parameters (P,) full width, redundancy (U,), mean loss, changes of its selection."""

    parameters: torch.Tensor
    redundancy: torch.Tensor
    loss: float
    changes: int


def digits(shape: tuple[int, int, int], classes: int, count: int) -> Dataset:
    """Digits of a kind: per class a pattern of bright pixels, of which each image lacks some, in a frame of zeros.

    As in MNIST a fifth of the pixels are not zero, and pooling windows are equal throughout.
    """
    rng = numpy.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    patterns = rng.random((classes, *shape)) < 0.5
    bright = rng.integers(1, 256, size=(count, *shape)) * (rng.random((count, *shape)) < 0.8)
    pixels = (patterns[labels] * bright).astype(numpy.uint8)
    frame = max(1, shape[1] // 7)
    pixels[:, :, :frame] = pixels[:, :, -frame:] = 0
    pixels[:, :, :, :frame] = pixels[:, :, :, -frame:] = 0
    return _dataset(pixels, labels, classes, 33.3, 78.6)


def photographs(shape: tuple[int, int, int], classes: int, count: int) -> Dataset:
    """Photographs of a kind: per class a pattern under noise of each image's own; no two places are equal."""
    rng = numpy.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    patterns = rng.integers(256, size=(classes, *shape))
    pixels = ((patterns[labels] + rng.integers(256, size=(count, *shape))) // 2).astype(numpy.uint8)
    return _dataset(pixels, labels, classes, 127.5, 52.0)


@dataclass(frozen=True)
class Network:
    """A chain, the shape of its samples, and what they show."""

    module: nn.Sequential
    shape: tuple[int, int, int]
    images: Callable[[tuple[int, int, int], int, int], Dataset] = digits


def mnist_network() -> Network:
    """The paper's network for MNIST."""
    module = mnist_cnn((1, 28, 28), 10)
    assert isinstance(module, nn.Sequential)
    return Network(module, (1, 28, 28))


def vgg_network() -> Network:
    """The paper's network for CIFAR-10: eight convolutions, a norm behind each."""
    module = vgg11((3, 32, 32), 10)
    assert isinstance(module, nn.Sequential)
    return Network(module, (3, 32, 32), photographs)


def fedlps_case(
    ratios: Sequence[float] = UNEQUAL,
    network: Network | None = None,
    *,
    samples: int = 180,
    epochs: int = 5,
    batch: int = 32,
    dtype: torch.dtype = torch.float32,
    tied: bool = False,
    images: int | None = None,
) -> Case:
    """A round of FedLPS: learned units, pulled to what was received. One client per ratio.

    images: how many different ones there are, which clients then share; none: as many as all samples.

    tied: redundancies that nearly agree, so that selections change all the time, instead of those of a first round.
    """

    case = _case(len(ratios), network or mnist_network(), samples, epochs, batch, dtype, images)
    redundancy = torch.sigmoid(-unit_abs_sum(case.parameters[None], case.layout)[0])
    if tied:
        noise = torch.randn(case.program.units, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        redundancy = (0.3 + 1e-3 * noise).to(dtype)
    pull = Pull(2 * MU / case.program.size, case.parameters)
    holds = [Hold(case.program.counts(ratio), Learned(redundancy, STRENGTH, 0.0, "mean")) for ratio in ratios]
    return _with(case, tuple(Job(client, own, (SEGMENT,), pulls=(pull,)) for client, own in enumerate(holds)))


def fedavg_case(
    clients: int = len(EQUAL),
    network: Network | None = None,
    *,
    samples: int = 180,
    epochs: int = 5,
    batch: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Case:
    """A round of FedAvg: every client trains the whole model."""
    case = _case(clients, network or mnist_network(), samples, epochs, batch, dtype)
    everything = whole(case.program, case.parameters)
    hold = Hold(tuple(everything.counts[0].tolist()), everything.kept[0])
    return _with(case, tuple(Job(client, hold, (SEGMENT,)) for client in range(clients)))


def unfolded(case: Case, result: LocalResult) -> Iterator[Trained]:
    """An executor's result in the form of a loop's; entries outside the submodels are those received."""
    for row, (kept, counts) in enumerate(zip(result.submodels.kept, result.submodels.counts, strict=True)):
        entries = case.layout.entries(kept, counts)
        parameters = case.parameters.clone()
        parameters[entries] = result.submodels.parameters[row, : len(entries)]
        yield Trained(parameters, result.redundancy[row], float(result.losses[row]), 0)


def flops(case: Case) -> float:
    """What the clients' submodels multiply and add in one call."""
    return float(
        sum(
            executed_flops(case.program, submodel_weights(case.program, job.hold.counts))
            * sum(map(len, case.batches(job.client)))
            for job in case.plan.jobs
        )
    )


def differences(case: Case, trained: Iterable[Trained], result: LocalResult) -> dict[str, list[float]]:
    """How far every client is from an executor's result: parameters relative to the norm of the round's change,
    redundancies and losses relative to 1.
    """
    found: dict[str, list[float]] = {"parameters": [], "redundancy": [], "loss": []}
    for own, wanted, kept, counts in zip(
        trained, unfolded(case, result), result.submodels.kept, result.submodels.counts, strict=True
    ):
        entries = case.layout.entries(kept, counts)
        change = torch.linalg.vector_norm((wanted.parameters - case.parameters)[entries])
        distance = torch.linalg.vector_norm((own.parameters - wanted.parameters)[entries])
        found["parameters"].append(float(distance / change))
        found["redundancy"].append(float((own.redundancy - wanted.redundancy).abs().max()))
        found["loss"].append(abs(own.loss - wanted.loss))
    return found


def _dataset(
    pixels: NDArray[numpy.uint8], labels: NDArray[numpy.int64], classes: int, mean: float, deviation: float
) -> Dataset:
    both, channels = Samples(pixels, labels.astype(numpy.int64)), pixels.shape[1]
    return Dataset("synthetic", both, both, classes, numpy.full(channels, mean), numpy.full(channels, deviation))


def _case(
    clients: int,
    network: Network,
    samples: int,
    epochs: int,
    batch: int,
    dtype: torch.dtype,
    images: int | None = None,
) -> Case:
    program = derive(network.module, network.shape)
    floating = numpy.float64 if dtype == torch.float64 else numpy.float32
    different = clients * samples if images is None else images
    store = SampleStore(network.images(network.shape, program.classes, different), floating)
    everything = numpy.arange(clients * samples) % different
    inputs, labels = store.batch(numpy.arange(different))
    return Case(
        network.module,
        program,
        program.layout(),
        store,
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        torch.from_numpy(initial_parameters(program, 0)).to(dtype),
        Plan(()),
        cohort(0, 0, numpy.arange(clients), numpy.split(everything, clients), epochs=epochs, batch=batch),
    )


def _with(case: Case, jobs: tuple[Job, ...]) -> Case:
    return replace(case, plan=Plan(jobs))
