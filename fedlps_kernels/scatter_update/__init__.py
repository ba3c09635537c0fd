"""The SGD step on compact gradients, written back to the flat parameters."""

import torch

from fedlps_kernels import checks, native, places
from fedlps_kernels.layout import Layout
from fedlps_kernels.on_device import OnDevice
from fedlps_kernels.scatter_update import cuda, definition


def scatter_update(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    anchor: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    layout: Layout,
    *,
    lr: float,
    pull: float,
    weight_decay: float,
    clip: float,
    momentum: float,
    velocity: torch.Tensor | None = None,
) -> None:
    """One step on each client's kept entries (spec section 4, step 3); everything else stays untouched:

        q = g + pull (w - anchor);   clip > 0: q = q min(1, clip / (|q| + 1e-6)), |q| over the client's kept entries;
        q = q + weight_decay w;   momentum > 0: v = momentum v + q, q = v;   w = w - lr q.

    parameters: w, (C, P) float32 or float64, contiguous; changed in place.
    gradient: g, (C, N), in compact order (`gather_weights`). anchor: (P,), what the clients received.
    kept: (C, U) int32, per group the client's ascending indices. counts: (C, G) int32.
    lr, pull: finite; weight_decay, clip, momentum: finite, not negative.
    velocity: v, (C, P), changed in place; given if and only if momentum > 0.
    Returns nothing; has no gradient.
    Raises TypeError for another dtype; ValueError for another shape, device, strides, counts, kept units, number, or a
    velocity without momentum and the other way round.
    """
    _update(
        *(parameters, gradient, anchor, kept, counts, layout.table, layout.groups),
        *(lr, pull, weight_decay, clip, momentum, velocity),
    )


@torch.library.custom_op(
    "fedlps::scatter_update",
    mutates_args=("parameters", "velocity"),
    schema="(Tensor(a0!) parameters, Tensor gradient, Tensor anchor, Tensor kept, Tensor counts, Tensor table, "
    "Tensor groups, float lr, float pull, float weight_decay, float clip, float momentum, Tensor(a12!)? velocity) "
    "-> ()",
)
def _update(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    anchor: torch.Tensor,
    kept: torch.Tensor,
    counts: torch.Tensor,
    table: torch.Tensor,
    groups: torch.Tensor,
    lr: float,
    pull: float,
    weight_decay: float,
    clip: float,
    momentum: float,
    velocity: torch.Tensor | None,
) -> None:
    layout = Layout.of(table, groups)
    checks.tensor("parameters", parameters, {"C": None, "P": layout.parameters}, checks.FLOATS)
    clients, dtypes, device = len(parameters), (parameters.dtype,), parameters.device
    checks.tensor("gradient", gradient, {"C": clients, "N": None}, dtypes, device)
    checks.tensor("anchor", anchor, {"P": layout.parameters}, dtypes, device)
    checks.submodels(kept, counts, groups, clients, device)
    checks.capacity("gradient: N", gradient.shape[1], layout.compact_sizes(counts))
    for name, number in (("lr", lr), ("pull", pull)):
        checks.number(name, number)
    for name, number in (("weight_decay", weight_decay), ("clip", clip), ("momentum", momentum)):
        checks.number(name, number, at_least=0)
    if (velocity is not None) != (momentum > 0):
        given = "none" if velocity is None else "one"
        raise ValueError(f"velocity: got {given} with momentum {momentum}, expected one if and only if momentum > 0")
    if velocity is not None:
        checks.tensor("velocity", velocity, {"C": clients, "P": layout.parameters}, dtypes, device)
    if native.serves_gpu(parameters):
        own, model = places.compact(layout, counts, gradient.shape[1]).to(device), OnDevice.of(layout, device)
        room = cuda.ClipRoom.of(clients, model) if clip > 0 else None
        cuda.scatter_update(
            *(parameters, gradient, own, [(pull, anchor)], kept, counts, model),
            lr=parameters.new_full((1,), lr),
            weight_decay=weight_decay,
            clip=clip,
            momentum=momentum,
            velocity=velocity,
            room=room,
        )
        return
    numbers = {"lr": lr, "pull": pull, "weight_decay": weight_decay, "clip": clip, "momentum": momentum}
    module = native.serving(parameters)
    if module is None:
        definition.scatter_update(parameters, gradient, anchor, kept, counts, layout, **numbers, velocity=velocity)
        return
    inputs = native.arrays(table, groups, parameters, gradient, anchor, kept, counts)
    crossing = None if velocity is None else native.array(velocity)
    module.scatter_update(*inputs, *numbers.values(), crossing, native.threads())
