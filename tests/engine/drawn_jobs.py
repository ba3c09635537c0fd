"""Drawn clients of a chain: unequal, with a short last batch or without any, of all ratios, learned or fixed."""

import numpy
import torch

from fedlps.engine.cohort import Cohort, from_batches
from fedlps.engine.plan import Hold, Job, Learned, Pull, Segment
from fedlps.program import Program, initial_parameters
from fedlps_kernels.select_units.definition import select_units

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.05)
MOST_STEPS = 6


def start_of(program: Program, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Parameters to start from. Norms have other shifts than 0, with which a batch of one value is on ReLU's edge."""
    values, rng = initial_parameters(program, seed), numpy.random.default_rng(seed)
    for layer in program.layers:
        if layer.scale is not None and layer.shift is not None:
            values[layer.scale : layer.scale + layer.rows] *= rng.choice([-0.5, 0.7, 1, 1.5], size=layer.rows)
            values[layer.shift : layer.shift + layer.rows] = rng.normal(size=layer.rows)
    return torch.from_numpy(values).to(dtype)


def drawn_cohort(clients: int, samples: int, rng: numpy.random.Generator) -> Cohort:
    """Each client has any number of samples, none included, in batches of 1 to 40; the last of an epoch is short."""
    batches, sizes, epoch_steps = [], [], []
    for _ in range(clients):
        size, batch = int(rng.choice([0, 1, 5, 17, 40, 45])), int(rng.integers(1, 41))
        own = rng.permutation(samples)[:size]
        epochs = [rng.permutation(own) for _ in range(3)]
        steps = [epoch[first : first + batch] for epoch in epochs for first in range(0, size, batch)]
        batches.append(steps[:MOST_STEPS])
        sizes.append(size)
        epoch_steps.append(-(-size // batch))
    given = {"sizes": numpy.array(sizes, dtype=numpy.int64), "epoch_steps": numpy.array(epoch_steps, dtype=numpy.int64)}
    return from_batches(numpy.arange(clients), batches, **given)


def drawn_jobs(
    program: Program, clients: int, received: torch.Tensor, rng: numpy.random.Generator, *, learned: bool
) -> tuple[Job, ...]:
    """A job per client with every number of the plain terms at some value or at none."""
    jobs = []
    for client in range(clients):
        counts = program.counts(float(rng.choice(RATIOS)))
        units = nearly_tied(program, rng, received.dtype) if learned else random_units(program, counts, rng)
        lr, momentum = float(rng.choice([0.05, 0.3])), float(rng.choice([0, 0.8]))
        segment = Segment(lr, momentum, float(rng.choice([0, 0.01])), float(rng.choice([0, 0.3])))
        pulls = (Pull(float(rng.choice([0.02, 0.5])), received),) if rng.random() < 0.5 else ()
        jobs.append(Job(client, Hold(counts, units), (segment,), pulls=pulls))
    return tuple(jobs)


def nearly_tied(program: Program, rng: numpy.random.Generator, dtype: torch.dtype = torch.float64) -> Learned:
    """Redundancies so close to each other that most steps change which are smallest; now and then they are equal."""
    spread = float(rng.choice([1e-3, 1e-3, 1e-2, 0]))
    redundancy = torch.from_numpy(0.3 + spread * rng.normal(size=program.units)).to(dtype)
    kappa, strength = float(rng.choice([0, 0.3, 2])), float(rng.choice([0.3, 1]))
    return Learned(redundancy, strength, kappa, "sum" if rng.random() < 0.5 else "mean")


def random_units(program: Program, counts: tuple[int, ...], rng: numpy.random.Generator) -> torch.Tensor:
    """So many of each group's units, as `select_units` returns them."""
    scores = torch.from_numpy(rng.normal(size=(1, program.units)))
    table = torch.tensor([counts], dtype=torch.int32).reshape(1, -1)
    return select_units(scores, table, program.layout().groups)[0]
