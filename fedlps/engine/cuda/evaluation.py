"""Many models of unequal sizes on their own samples, a batch of each at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import torch

from fedlps.engine.cohort import Indices
from fedlps.engine.cuda.capacity import Setting
from fedlps.engine.cuda.images import Images
from fedlps.engine.cuda.launches import Packed, Weights
from fedlps.engine.cuda.propagation import Forward, Memory, Surroundings, placed
from fedlps.engine.result import Evaluation, Submodels
from fedlps_kernels.places import PAD, compact


def evaluate(
    around: Surroundings,
    weights: Weights,
    setting: Setting,
    models: Submodels,
    images: Images,
    samples: Sequence[Indices],
    room: dict[str, int],
) -> Evaluation:
    """samples: per model, rows of `images`, run in batches of `setting.batch` consecutive ones, the last shorter."""
    network, products, buffers = around.network, around.products, around.buffers
    counts = models.counts.to("cpu", torch.int64)
    ways = Forward(around, counts, setting, Memory(around, counts, setting, room))
    compact_models = buffers.shaped("compact", tuple(models.parameters.shape), setting.dtype)
    compact_models.copy_(models.parameters, non_blocking=True)
    (places,) = placed(buffers, "places of models", [compact(around.layout, counts, models.parameters.shape[1])])
    (counts_there,) = buffers.put("counts of models", [models.counts.to("cpu", torch.int32)])
    weights.move(Packed(compact_models.view(-1), places), ways.packed, None, counts_there, rounds=True)
    products.prepare(network, counts, setting.batch, setting.trains)

    most, batch = max(map(len, samples), default=0), setting.batch
    steps = -(-most // batch)
    indices = numpy.zeros((steps, len(samples), batch), dtype=numpy.int64)
    sizes = numpy.zeros((steps, len(samples)), dtype=numpy.int32)
    for model, own in enumerate(samples):
        for step, start in enumerate(range(0, len(own), batch)):
            piece = own[start : start + batch]
            indices[step, model, : len(piece)], sizes[step, model] = piece, len(piece)
    labels = torch.from_numpy(images.labels[indices]).to(buffers.device)
    rows, real = torch.from_numpy(indices).to(buffers.device), torch.from_numpy(sizes).to(buffers.device)
    hits = torch.zeros(indices.shape, dtype=torch.bool, device=buffers.device)
    losses = torch.zeros(len(samples), dtype=torch.float64, device=buffers.device)
    wide = -(-network.classes // PAD) * PAD  # classes are never thinned: all models' logits lie at one distance
    for step in range(steps):
        products.gather(images.data, images.table, rows[step], real[step], ways.arenas[0])
        ways.forward(real[step], None)
        logits = ways.logits.data[: hits[step].numel() * wide].view(*hits[step].shape, wide)
        scores = logits[:, :, : network.classes].to(torch.promote_types(logits.dtype, torch.float32))
        hits[step] = _first_largest(scores) == labels[step]
        every = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels[step].flatten(), reduction="none")
        exists = torch.arange(batch, device=buffers.device) < real[step][:, None]
        losses += torch.where(exists, every.view_as(exists), 0).sum(dim=1, dtype=torch.float64)
    found = hits.transpose(0, 1).reshape(len(samples), -1).cpu().numpy()
    return Evaluation([row[: len(own)].copy() for row, own in zip(found, samples, strict=True)], losses.cpu().numpy())


def _first_largest(scores: torch.Tensor) -> torch.Tensor:
    """The class of the largest score, of equal ones the lowest: (..., classes) -> (...)."""
    classes = scores.shape[-1]
    places = torch.arange(classes, device=scores.device)
    return torch.where(scores == scores.amax(dim=-1, keepdim=True), places, classes).amin(dim=-1)
