"""What a user would otherwise run for a layer of unequal clients: the library's convolutions and products.

Clients that share a call lie side by side as groups of one convolution, which is what `torch.func.vmap` makes of it
too. All are given their operands where the call wants them: compact, stacked, or as wide as the layer, with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input, conv2d_weight

from bench.kernels.device import Alternative, Call, branches
from bench.kernels.operands import Operands, Parts, together

NCHW, LAST = torch.contiguous_format, torch.channels_last
Drawn = tuple[Parts, Parts, Parts]
Bucket = Callable[[], torch.Tensor]


def alternatives(operands: Operands, direction: str, drawn: list[Drawn]) -> list[Alternative]:
    """All of them, for the same operands. direction: forward, input gradient, weight gradient."""
    suits = NCHW if operands.precision == "fp32" else LAST  # tensor cores want channels innermost

    def one(kind: str, layout: torch.memory_format, captured: bool) -> Alternative:
        def make() -> tuple[list[Call], Callable[[], Parts]]:
            calls: list[Call] = []
            first: list[tuple[list[int], Bucket]] = []
            for each in drawn:
                shared = together(kind, list(zip(operands.columns, operands.rows, strict=True)))
                buckets = [(own, bucket(operands, direction, each, own, layout)) for own in shared]
                first = first or buckets
                run = [call for _, call in buckets]
                calls.append(branches(run, operands.device) if captured else _in_turn(run))
            return calls, lambda: _results(operands, direction, first)

        return Alternative(_name(kind, layout, captured), make, captured)

    stacked = [one(kind, layout, True) for kind in ("masked", "equal") for layout in _layouts(operands)]
    return [one("alone", suits, False), one("alone", suits, True), *stacked]


def bucket(operands: Operands, direction: str, drawn: Drawn, own: list[int], layout: torch.memory_format) -> Bucket:
    """One library call for these clients, as wide as the widest of them; a single one is not a group."""
    layer, n = operands.layer, len(own)
    columns, rows = (max(sizes[client] for client in own) for sizes in (operands.columns, operands.rows))
    inputs, weights, gradient = (
        _stacked([parts[client] for client in own], wide, layout, rows=high)
        for parts, wide, high in zip(drawn, (columns, columns, rows), (None, rows, None), strict=True)
    )
    if operands.window is None:  # (clients, samples, features), a batched product
        x, g = (t.flatten(1).view(layer.batch, n, -1).transpose(0, 1).contiguous() for t in (inputs, gradient))
        w = weights.view(n, rows, columns)
        return {
            "forward": lambda: torch.bmm(x, w.transpose(1, 2)),
            "input gradient": lambda: torch.bmm(g, w),
            "weight gradient": lambda: torch.bmm(g.transpose(1, 2), x),
        }[direction]
    more = {"padding": layer.padding, "groups": n}
    return {
        "forward": lambda: conv2d(inputs, weights, **more),
        "input gradient": lambda: conv2d_input(inputs.shape, weights, gradient, **more),
        "weight gradient": lambda: conv2d_weight(inputs, weights.shape, gradient, **more),
    }[direction]


def _stacked(parts: Parts, wide: int, layout: torch.memory_format, *, rows: int | None) -> torch.Tensor:
    """Clients side by side in the channels; of weights, to which rows belong, behind one another in these."""
    high = len(parts[0]) if rows is None else rows
    full = [pad(part, (0, 0, 0, 0, 0, wide - part.shape[1], 0, high - part.shape[0])) for part in parts]
    return torch.cat(full, dim=1 if rows is None else 0).contiguous(memory_format=layout)


def _results(operands: Operands, direction: str, buckets: list[tuple[list[int], Bucket]]) -> Parts:
    """Every client's own part of what the calls leave."""
    found: dict[int, torch.Tensor] = {}
    for own, call in buckets:
        result = call()
        if result.dim() == 3:  # of a batched product
            each: Sequence[torch.Tensor] = result[..., None, None].unbind()
        else:
            each = result.chunk(len(own), dim=0 if direction == "weight gradient" else 1)
        for client, part in zip(own, each, strict=True):
            i, o = operands.columns[client], operands.rows[client]
            first, second = {
                "forward": (operands.layer.batch, o),
                "input gradient": (operands.layer.batch, i),
                "weight gradient": (o, i),
            }[direction]
            found[client] = part[:first, :second]
    return [found[client] for client in sorted(found)]


def _layouts(operands: Operands) -> tuple[torch.memory_format, ...]:
    return (NCHW,) if operands.window is None else (NCHW, LAST)


def _name(kind: str, layout: torch.memory_format, captured: bool) -> str:
    spelled = {"alone": "client by client", "masked": "masked, whole widths", "equal": "equal ratios stacked"}[kind]
    if kind == "alone":
        return f"graph, {spelled}" if captured else spelled
    return f"{spelled}, {'NCHW' if layout is NCHW else 'channels last'}"


def _in_turn(calls: list[Bucket]) -> Call:
    return lambda: [call() for call in calls]
