"""One job of a plan while the native engine runs it: its state between segments, and what the engine is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.passes import check_passes
from fedlps.engine.plan import Job, Learned, Pass, Probe
from fedlps.program import Program
from fedlps_kernels import Layout, gather_weights, native


class NativeJob:
    """Of one job the parameters (P,), if anything asks for them behind the training, velocity, redundancies (U,), kept
    units and counters.

    batches: of all epochs; epoch: how many of them an epoch has; places: maps sample indices to what the engine reads;
    kept: (U,) int32, the units to begin with.
    """

    def __init__(
        self,
        program: Program,
        layout: Layout,
        job: Job,
        global_parameters: torch.Tensor,
        batches: list[Indices],
        epoch: int,
        probes: frozenset[Probe],
        places: Callable[[Indices], Indices],
        kept: torch.Tensor,
    ) -> None:
        self.program, self.job, self.epoch = program, job, max(epoch, 1)
        self.dtype = global_parameters.dtype
        start = global_parameters if job.start is None else job.start
        self.start = start.detach().to(self.dtype).contiguous()
        asked = "parameters" in probes or len(job.segments) > 1 or any(segment.after for segment in job.segments)
        self.parameters = self.start.clone() if asked else None
        self.velocity: torch.Tensor | None = None
        self.counts = torch.tensor(job.hold.counts, dtype=torch.int32)
        units = job.hold.units
        self.learned = units if isinstance(units, Learned) else None
        self.redundancy = torch.zeros(program.units, dtype=self.dtype)
        if self.learned is not None:
            self.redundancy.copy_(self.learned.redundancy)
        self.kept = kept.clone()
        self.layout = layout
        self.compact: torch.Tensor | None = None
        self.held = job.hold.mask
        self.references = [pull.reference.to(self.dtype).contiguous() for pull in job.pulls]
        self.scale = None if job.scale is None else torch.tensor(job.scale, dtype=torch.float64)
        steps = len(batches)
        self.samples = torch.from_numpy(places(numpy.concatenate([numpy.zeros(0, dtype=numpy.int64), *batches])))
        self.edges = torch.from_numpy(numpy.cumsum([0, *map(len, batches)], dtype=numpy.int64))
        self.losses = torch.zeros(steps, dtype=torch.float64)
        self.squares = torch.zeros(steps, dtype=torch.float64)
        self.by_step = torch.zeros((steps, program.units), dtype=torch.int32) if "kept" in probes else None
        self.gradients = torch.zeros_like(self.start) if "gradients" in probes else None
        self.first_gradient: torch.Tensor | None = None
        self.mask: torch.Tensor | None = None
        self.told = torch.zeros(4, dtype=torch.int64)  # hits, samples, steps, diverged
        self.first = self.last = 0

    def enter(self, number: int) -> bool:
        """Prepare a segment; False if there is none of that number to run."""
        if number >= len(self.job.segments) or self.diverged:
            return False
        self.segment = self.job.segments[number]
        steps = len(self.edges) - 1
        self.first = self.last
        self.last = steps if self.segment.steps is None else min(self.first + self.segment.steps, steps)
        check_passes(self.program, self.job, self.segment, self.last - self.first)
        self.compact = torch.empty(int(self.layout.compact_sizes(self.counts[None])), dtype=self.dtype)
        if not self.segment.carry_velocity:
            self.velocity = None
        if self.velocity is None and self.segment.momentum:
            self.velocity = torch.zeros_like(self.start)
        masks = [mask for mask in (self.held, self.segment.trains) if mask is not None]
        self.mask = torch.stack(masks).all(0) if masks else None
        self.first_gradient = torch.zeros_like(self.start) if self.segment.after_gradient else None
        return True

    def leave(self) -> None:
        """What follows a segment: its change of weights and mask."""
        if self.segment.after is None or self.parameters is None or self.diverged:
            return
        held = torch.ones_like(self.parameters, dtype=torch.bool) if self.held is None else self.held
        parameters, self.held = self.segment.after(self.parameters, held, self.first_gradient)
        self.parameters = parameters.to(self.dtype).clone(memory_format=torch.contiguous_format)
        self.compact = None

    def submodel(self) -> torch.Tensor:
        """The parameters of the kept units, in compact order."""
        if self.compact is None:  # as the engine left it, unless nothing ran or something followed
            size = int(self.layout.compact_sizes(self.counts[None]))
            full = self.start if self.parameters is None else self.parameters
            return gather_weights(full[None], self.kept[None], self.counts[None], self.layout, size)[0]
        return self.compact

    def arguments(self) -> dict[str, Any]:
        """The segment as csrc/engine_bindings.cpp reads it."""
        job, segment, learned = self.job, self.segment, self.learned
        return {
            "samples": native.array(self.samples),
            "edges": native.array(self.edges),
            "epoch_steps": self.epoch,
            "first_step": self.first,
            "last_step": self.last,
            "counts": native.array(self.counts),
            "mask": None if self.mask is None else _bytes(self.mask),
            "exits": min(job.hold.depth or len(self.program.exits), len(self.program.exits)),
            "scale": None if self.scale is None else native.array(self.scale),
            "pulls": [
                (pull.coefficient, native.array(reference))
                for pull, reference in zip(job.pulls, self.references, strict=True)
            ],
            "penalty": job.penalty,
            "mutual": job.mutual,
            "lr": segment.lr,
            "momentum": segment.momentum,
            "weight_decay": segment.weight_decay,
            "clip": segment.clip,
            "passes": [self._pass(one) for one in segment.passes],
            "learning": None if learned is None else (learned.strength, learned.kappa, learned.reduction == "mean"),
            "after_gradient": segment.after_gradient,
            "start": native.array(self.start),
            "parameters": _optional(self.parameters),
            "velocity": _optional(self.velocity if segment.momentum else None),
            "redundancy": native.array(self.redundancy),
            "kept": native.array(self.kept),
            "losses": native.array(self.losses),
            "squares": native.array(self.squares),
            "kept_by_step": _optional(self.by_step),
            "gradients": _optional(self.gradients),
            "first_gradient": _optional(self.first_gradient),
            "compact": _optional(self.compact),
            "told": native.array(self.told),
        }

    def _pass(self, one: Pass) -> dict[str, Any]:
        widths = None
        if one.widths is not None:
            nothing = (-1,) * len(self.program.groups)
            rows = one.widths[: self.last - self.first]
            widths = [count for counts in rows for count in (nothing if counts is None else counts)]
        teacher = -1 if one.teacher is None else one.teacher
        return {"batch": one.batch, "at": list(one.at), "weight": one.weight, "widths": widths, "teacher": teacher}

    @property
    def hits(self) -> int:
        """Correct answers over the steps."""
        return int(self.told[0])

    @property
    def seen(self) -> int:
        """Samples over the steps."""
        return int(self.told[1])

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self.told[2])

    @property
    def diverged(self) -> bool:
        """Whether loss, parameters or redundancies became non-finite."""
        return bool(self.told[3])

    @property
    def mean_loss(self) -> float:
        """Over the steps; NaN if there was none."""
        return float(self.losses[: self.steps].mean()) if self.steps else float("nan")

    def probe(self, name: Probe) -> Any:
        """What the plan asks to be told of the job."""
        match name:
            case "kept":
                return [] if self.by_step is None else list(self.by_step[: self.steps])
            case "losses":
                return self.losses[: self.steps].tolist()
            case "squared_losses":
                return self.squares[: self.steps].tolist()
            case "parameters":
                return self.parameters
            case "mask":
                return torch.ones_like(self.start, dtype=torch.bool) if self.held is None else self.held
            case "gradients":
                return self.gradients


def _optional(tensor: torch.Tensor | None) -> native.Array | None:
    return None if tensor is None else native.array(tensor)


def _bytes(mask: torch.Tensor) -> native.Array:
    return native.array(mask.view(torch.uint8))
