"""All clients of one width at once: `torch.func.vmap` over them, by choice through `torch.compile`."""

from collections.abc import Callable

import torch
from torch import nn

from bench.rounds.case import Case, Trained

Stack = tuple[torch.Tensor, ...]


class Vmapped:
    """Trains clients of equal sizes that all hold the whole model, step by step together."""

    def __init__(self, case: Case, *, compiled: bool) -> None:
        self.case = case
        (self.segment,) = case.plan.jobs[0].segments
        self.names = [parameter.name for parameter in case.program.parameters]
        batches = [case.batches(job.client) for job in case.plan.jobs]
        self.steps = [torch.stack(step) for step in zip(*batches, strict=True)]  # (C, B) each
        gradients = torch.func.vmap(torch.func.grad_and_value(self._loss))

        def step(weights: Stack, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[Stack, torch.Tensor]:
            towards, losses = gradients(weights, inputs, labels)
            lr, decay = self.segment.lr, self.segment.weight_decay
            return tuple(w - lr * (g + decay * w) for w, g in zip(weights, towards, strict=True)), losses

        self.step: Callable[[Stack, torch.Tensor, torch.Tensor], tuple[Stack, torch.Tensor]] = (
            torch.compile(step, dynamic=False) if compiled else step
        )

    def train(self) -> list[Trained]:
        """Every client's round, from the received parameters."""
        case, clients = self.case, len(self.case.plan.jobs)
        weights: Stack = tuple(
            case.parameters[entry.offset : entry.offset + entry.size]
            .view(entry.shape)
            .repeat(clients, *[1] * len(entry.shape))
            for entry in case.program.parameters
        )
        losses = []
        with torch.no_grad():
            for batch in self.steps:
                weights, loss = self.step(weights, case.inputs[batch], case.labels[batch])
                losses.append(loss)
        full = torch.cat([weight.flatten(1) for weight in weights], 1)
        mean = torch.stack(losses).mean(0).tolist()
        nothing = case.parameters.new_zeros(case.program.units)
        return [Trained(own, nothing, loss, 0) for own, loss in zip(full, mean, strict=True)]

    def _loss(self, weights: Stack, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        named = dict(zip(self.names, weights, strict=True))
        outputs = torch.func.functional_call(self.case.module, named, (inputs,))
        return nn.functional.cross_entropy(outputs, labels)
