"""A client's whole local round: losses, patterns, parameters, redundancies and the upload."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import nn

from fedlps.engine.cohort import from_batches
from fedlps.engine.plan import Hold, Job, Learned, Plan, Segment
from fedlps.engine.reference import ReferenceExecutor
from fedlps.engine.result import Executor, Part
from fedlps.models import chain
from fedlps.program import Program
from fedlps.recipe import download, objective
from fedlps.trace import derive
from fedlps_kernels import gather_weights, select_units
from tests.golden.compare import close, exact
from tests.golden.options import Options, SkippedError


@dataclass(frozen=True)
class CaseSamples:
    """The case's own inputs as a sample store."""

    inputs: numpy.ndarray
    labels: numpy.ndarray

    def batch(self, indices: numpy.ndarray, part: Part = "train") -> tuple[numpy.ndarray, numpy.ndarray]:
        """The samples at the indices; there is one part."""
        return self.inputs[indices], self.labels[indices]


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """One job on a cohort of one client, compared after the round and step by step."""
    shape = tuple(case["model"]["input"])
    module = chain(shape, case["model"]["steps"])
    program = derive(module, shape)
    samples = CaseSamples(options.cast(arrays["x"]).cpu().numpy(), arrays["y"])
    dtype = getattr(torch, options.dtype)
    executor = _executor(options, program, module, samples, dtype)
    received = options.cast(arrays["params"]).cpu()
    job = _job(case, program, received, options.cast(arrays["redundancy"]).cpu())
    batches = [numpy.array(batch, dtype=numpy.int64) for batch in case["batches"]]
    cohort = from_batches(numpy.array([0]), [batches], numpy.array([len(arrays["y"])]))
    result = executor.train(received, Plan((job,), frozenset({"kept", "losses", "parameters"})), cohort)

    want, layout, models = case["want"], program.layout(), result.submodels
    entries = layout.entries(models.kept[0], models.counts[0])
    mask, residual = torch.zeros(program.size, dtype=torch.uint8), torch.zeros(program.size, dtype=dtype)
    mask[entries] = 1
    capacity = models.parameters.shape[1]
    gathered = gather_weights(received[None], models.kept, models.counts, layout, capacity)
    residual[entries] = (gathered - models.parameters)[0, : len(entries)]
    learned = case["config"]["pattern"] == "learned"
    redundancy = result.redundancy[0].numpy() if learned else arrays["redundancy"]
    by_step = [_units(program, kept) for kept in result.probes["kept"][0]]
    parameters = result.probes["parameters"][0].numpy()
    return [
        *exact("kept_by_step", by_step, want["kept_by_step"]),
        *exact("kept", _units(program, models.kept[0]), want["kept"]),
        *exact("mask", mask.numpy(), arrays["mask"]),
        *close("losses", result.probes["losses"][0], want["losses"], options.tolerance),
        *close("accuracy", result.hits[0] / result.seen[0], want["accuracy"], options.tolerance),
        *close("params_out", parameters, arrays["params_out"], options.tolerance),
        *close("redundancy_out", redundancy, arrays["redundancy_out"], options.tolerance),
        *close("residual", residual.numpy(), arrays["residual"], options.tolerance),
    ]


def _executor(
    options: Options, program: Program, module: nn.Module, samples: CaseSamples, dtype: torch.dtype
) -> Executor:
    # only a build that has the others is asked for them
    match options.executor:
        case "cpu":
            from fedlps.engine.cpu import CpuExecutor

            return CpuExecutor(program, samples, dtype=dtype)
        case "cuda":
            from fedlps.engine.cuda.executor import CudaExecutor
            from fedlps.engine.cuda.network import why_not

            if obstacle := why_not(program):
                raise SkippedError(f"cuda does not run the model: {obstacle}")
            return CudaExecutor(program, samples, dtype=dtype, device=options.device)
    return ReferenceExecutor(program, module, samples, dtype=dtype)


def _job(case: Mapping[str, Any], program: Program, received: torch.Tensor, redundancy: torch.Tensor) -> Job:
    config = case["config"]
    counts = program.counts(case["ratio"])
    units: torch.Tensor | Learned
    if config["pattern"] == "learned":
        units = Learned(redundancy, config["lambda"], config["kappa"], config["norm"])
    else:
        draws = (case.get("seed", 0), case.get("round", 0), case.get("client", 0))
        scores = download.pattern_scores(program, config["pattern"], received, *draws)
        table = torch.tensor([counts], dtype=torch.int32)
        units = select_units(scores[None], table, program.layout().groups)[0]
    segment = Segment(config["lr"], config["momentum"], config["weight_decay"], config["clip"])
    pull = objective.pull(program, received, config["mu"], config["norm"])
    return Job(0, Hold(counts, units), (segment,), pulls=(pull,))


def _units(program: Program, kept: torch.Tensor) -> list[list[int]]:
    groups = kept.split([group.units for group in program.groups])
    return [group[group >= 0].tolist() for group in groups]
