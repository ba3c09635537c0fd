"""A local step by library calls of clients of equal widths, side by side: groups of a convolution, batched products.

A single client is a plain step on compacted tensors; clients with unequal masks are the dense-masked step. What the
engine does besides is given for free: the batch lies normalized where it is read, weights are gathered already, and
redundancies stand still, so that nobody selects units anew.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from bench.rounds.case import Case
from bench.rounds.flat import padded, smallest
from fedlps.cost import kept_columns, kept_rows
from fedlps.engine.cuda.launches import Precision
from fedlps.engine.plan import Learned
from fedlps.program import Layer, Step


class Stacked:
    """One step of these clients of a case, over and over on their first batch.

    masked: at full width with masks; else all must have the same counts. layout: of images and kernels.
    """

    def __init__(
        self,
        case: Case,
        clients: list[int],
        device: torch.device | str,
        precision: Precision,
        layout: torch.memory_format,
        *,
        masked: bool = False,
    ) -> None:
        self.case, self.clients, self.device, self.layout, self.masked = case, clients, device, layout, masked
        self.store = torch.bfloat16 if precision == "bf16" else case.parameters.dtype
        (self.segment,) = case.plan.jobs[clients[0]].segments
        self.entries = [kept_entries(case, client) for client in clients]
        self.counts = case.program.counts(1) if masked else case.plan.jobs[clients[0]].hold.counts
        batches = [case.batches(client)[0] for client in clients]
        self.batch = len(batches[0])
        images = torch.cat([case.inputs[batch] for batch in batches], dim=1).to(device, self.store)
        self.inputs = images.contiguous(memory_format=layout)
        self.labels = torch.cat([case.labels[batch] for batch in batches]).to(device)
        self.pull = sum(pull.coefficient for pull in case.plan.jobs[clients[0]].pulls)
        starts = [self._start(entries) for entries in self.entries]
        self.references = self._tensors(starts)
        self.leaves = [one.clone(memory_format=torch.preserve_format).requires_grad_() for one in self.references]
        self.values = [leaf.detach() for leaf in self.leaves]
        self.masks = self._tensors([self._mask(entries) for entries in self.entries]) if masked else []

    def step(self) -> None:
        """Forward, backward, update."""
        gradients = list(torch.autograd.grad(self._loss(), self.leaves))
        with torch.no_grad():
            torch._foreach_add_(gradients, self.values, alpha=self.segment.weight_decay + self.pull)
            torch._foreach_sub_(gradients, self.references, alpha=self.pull)
            if self.masked:
                torch._foreach_mul_(gradients, self.masks)
            torch._foreach_sub_(self.values, gradients, alpha=self.segment.lr)

    def changes(self) -> dict[int, torch.Tensor]:
        """By client, how far its kept entries have moved, in compact order."""
        moved = [now - before for now, before in zip(self.values, self.references, strict=True)]
        found = {}
        for place, client in enumerate(self.clients):
            flat = torch.cat([one[place].flatten() for one in moved])
            found[client] = flat[self.entries[place].to(flat.device)] if self.masked else flat
        return found

    def _loss(self) -> torch.Tensor:
        """The sum of the clients' means."""
        x, n, layers = self.inputs, len(self.clients), self.case.program.layers
        tensors = dict(zip(self.names, (leaf.to(self.store) for leaf in self.leaves), strict=True))
        for step in self.case.program.steps:
            x = self._apply(x, step, n, layers, tensors)
        logits = x.transpose(0, 1).reshape(n * self.batch, -1).float()
        return functional.cross_entropy(logits, self.labels, reduction="sum") / self.batch

    def _apply(
        self,
        x: torch.Tensor,
        step: Step,
        n: int,
        layers: tuple[Layer, ...] | list[Layer],
        tensors: dict[tuple[int, str], torch.Tensor],
    ) -> torch.Tensor:
        def of(name: str) -> torch.Tensor | None:
            return None if step.layer is None else tensors.get((step.layer, name))

        weight, bias, scale, shift = (of(name) for name in ("weight", "bias", "scale", "shift"))
        match step.kind:
            case "conv":
                assert weight is not None
                merged = None if bias is None else bias.flatten()
                return functional.conv2d(x, weight.flatten(0, 1), merged, step.stride, step.padding, groups=n)
            case "linear":
                assert weight is not None
                found = torch.bmm(x.transpose(0, 1), weight.flatten(2).transpose(1, 2))
                return (found if bias is None else found + bias[:, None]).transpose(0, 1)
            case "norm":
                assert scale is not None
                assert shift is not None
                return functional.batch_norm(x, None, None, scale.flatten(), shift.flatten(), training=True)
            case "flatten":
                return x.reshape(self.batch, n, -1)
            case "maxpool":
                return functional.max_pool2d(x, step.kernel)
            case "avgpool":
                return functional.avg_pool2d(x, step.kernel)
            case "relu":
                return x.relu()
        raise ValueError(f"step: got {step.kind}, expected one of a plain chain")

    def _start(self, entries: torch.Tensor) -> torch.Tensor:
        """The received parameters, (n,) compact, or (P,) and 0 where nothing is kept."""
        given = self.case.parameters
        return given * self._mask(entries) if self.masked else given[entries]

    def _mask(self, entries: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(self.case.parameters).index_fill_(0, entries, 1)

    def _tensors(self, flat: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of every parameter, all clients' behind one another, on the device; `names` says which are which."""
        stacked, reached, found = torch.stack(flat).to(self.device), 0, []
        self.names = []
        for number, layer in enumerate(self.case.program.layers):
            rows, columns = kept_rows(layer, self.counts), kept_columns(layer, self.counts) * layer.spread
            side = round(layer.kernel**0.5)
            shapes = {"weight": (rows, columns, side, side)}
            vectors = {"bias": layer.bias, "scale": layer.scale, "shift": layer.shift}
            shapes |= {name: (rows,) for name, offset in vectors.items() if offset is not None}
            for name, shape in shapes.items():
                size = torch.Size(shape).numel()
                piece = stacked[:, reached : reached + size].reshape(len(flat), *shape)
                if name == "weight":
                    piece = piece.flatten(0, 1).contiguous(memory_format=self.layout).unflatten(0, (len(flat), rows))
                found.append(piece)
                self.names.append((number, name))
                reached += size
        return found


def kept_entries(case: Case, client: int) -> torch.Tensor:
    """Where a client's first selection lies in the flat vector, in compact order."""
    job = case.plan.jobs[client]
    assert isinstance(job.hold.units, Learned)
    edges = case.layout.groups.tolist()
    kept = smallest(job.hold.units.redundancy, job.hold.counts, edges)
    return case.layout.entries(padded(kept, job.hold.counts, edges), torch.tensor(job.hold.counts))
