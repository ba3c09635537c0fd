"""A local round of FedLPS on a device, and what it is held to: float64, and itself in other company."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy
import torch

from bench.rounds.case import Case, Network, fedlps_case, photographs, vgg_network
from bench.rounds.engine import definition
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.cuda.launches import Precision
from fedlps.engine.plan import Hold, Job, Pass, Plan
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import LocalResult
from fedlps.models import chain
from fedlps.program import Program
from tests.engine.cases import first_units
from tests.engine.on_cuda import PROBES

RATIOS = (1.0, 0.5, 0.25, 0.125, 0.0625)
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Workload:
    """Clients of all ratios, so many steps each; the last one is short. taught: of FjORD, not of FedLPS."""

    network: str
    steps: int
    batch: int
    taught: bool = False

    def case(self, dtype: torch.dtype = torch.float32) -> Case:
        """A round of FedLPS whose selections change on the way, or one of leading units and drawn widths."""
        samples = self.steps * self.batch - self.batch // 2
        case = fedlps_case(
            RATIOS, NETWORKS[self.network](), samples=samples, epochs=1, batch=self.batch, dtype=dtype, tied=True
        )
        if not self.taught:
            return case
        rng, jobs = numpy.random.default_rng(0), case.plan.jobs
        return replace(case, plan=Plan(tuple(_taught(case.program, job, self.steps, rng) for job in jobs)))


def _taught(program: Program, job: Job, steps: int, rng: numpy.random.Generator) -> Job:
    """All that is held teaches a width that is drawn for every step but the second."""
    counts = job.hold.counts
    drawn = [tuple(int(rng.integers(1, count + 1)) for count in counts) for _ in range(steps)]
    narrow = Pass(widths=(drawn[0], None, *drawn[2:]), teacher=0)
    segment = replace(job.segments[0], momentum=0.5, passes=(Pass(), narrow))
    return Job(job.client, Hold(counts, first_units(program, counts)), (segment,))


def narrow() -> Network:
    """Two convolutions with norms and two linear layers, of widths that are multiples of nothing."""
    shape = (3, 9, 8)
    block = (["norm"], ["relu"])
    features = (["conv", 21, 3, 1, 1], *block, ["maxpool", 2], ["conv", 37, 3, 1, 0], *block)
    return Network(chain(shape, [*features, ["flatten"], ["linear", 19], ["relu"], ["linear", 5]]), shape, photographs)


def smooth() -> Network:
    """The same without a ReLU or a maximum, whose decisions turn a rounding into an error of another size."""
    shape = (3, 9, 8)
    features = (["conv", 21, 3, 1, 1], ["norm"], ["avgpool", 2], ["conv", 37, 3, 1, 0], ["norm"])
    return Network(chain(shape, [*features, ["flatten"], ["linear", 19], ["linear", 5]]), shape, photographs)


NETWORKS = {"smooth": smooth, "narrow": narrow, "vgg11": vgg_network}


def engine(
    case: Case, device: str, precision: Precision, *, memory: int | None = None, dtype: torch.dtype = torch.float32
) -> CudaExecutor:
    """An executor of its own, with memory that nothing has been written to."""
    batch = max(len(batch) for job in case.plan.jobs for batch in case.batches(job.client))
    told = {"device": device, "precision": precision, "batch": batch, "memory": memory}
    return CudaExecutor(case.program, case.store, dtype=dtype, **told)


def trained(executor: CudaExecutor | ReferenceExecutor, case: Case) -> LocalResult:
    """The round with all that it tells."""
    return executor.train(case.parameters, Plan(case.plan.jobs, PROBES), case.cohort)


def only(case: Case, *clients: int) -> Case:
    """The jobs of these clients, in this order."""
    return replace(case, plan=Plan(tuple(case.plan.jobs[client] for client in clients)))


def in_parts(case: Case, device: str, precision: Precision) -> tuple[LocalResult, int]:
    """The round within so few bytes that the clients are trained in several parts, and how many there were."""
    jobs, whole = case.plan.jobs, engine(case, device, precision)
    batches = [list(case.cohort.batches(job.client)) for job in jobs]
    setting = whole.setting(Plan(jobs, PROBES), list(range(len(jobs))), batches)
    each = whole._bytes(torch.tensor([job.hold.counts for job in jobs]), setting)
    executor, parts = engine(case, device, precision, memory=2 * int(each.sum()) // 3), 0
    run = executor.graphs.run

    def counted(step: Callable[[], None], steps: int, key: object) -> None:
        nonlocal parts
        parts += 1
        run(step, steps, key)

    executor.graphs.run = counted
    return trained(executor, case), parts


def call_by_call(executor: CudaExecutor) -> CudaExecutor:
    """The same without captured graphs."""

    def run(step: Callable[[], None], steps: int, key: object) -> None:
        for _ in range(steps):
            step()

    executor.graphs.run = run
    return executor


@cache
def wanted(workload: Workload) -> LocalResult:
    """By the definition, in float64."""
    case = workload.case(torch.float64)
    return trained(definition(case), case)


@cache
def emulated(workload: Workload, precision: Precision) -> LocalResult:
    """By plain torch on a CPU from operands rounded alike; sums in float64, but for TF32: that rounds float32 alone."""
    dtype = torch.float32 if precision == "tf32" else torch.float64
    case = workload.case(dtype)
    return trained(engine(case, "cpu", precision, dtype=dtype), case)


def errors(got: LocalResult, want: LocalResult, case: Case) -> torch.Tensor:
    """(clients, layers): the relative RMS error of what the round changed in each layer's entries."""
    start = case.parameters.double()
    edges = [*case.layout.table[:, 5].tolist(), case.layout.parameters]
    rows = []
    for own, defined in zip(got.probes["parameters"], want.probes["parameters"], strict=True):
        changes = own.double() - start, defined.double() - start
        pairs = [[change[first:last] for change in changes] for first, last in pairwise(edges)]
        rows.append([float((one - other).norm() / other.norm()) for one, other in pairs])
    return torch.tensor(rows)


def same_selections(got: LocalResult, want: LocalResult) -> bool:
    """At every step of every client."""
    pairs = zip(got.probes["kept"], want.probes["kept"], strict=True)
    return all(torch.equal(torch.stack(one), torch.stack(other)) for one, other in pairs)


def changes(result: LocalResult) -> int:
    """How often selections of clients changed from one step to the next."""
    return sum(not torch.equal(*pair) for own in result.probes["kept"] for pair in pairwise(own))
