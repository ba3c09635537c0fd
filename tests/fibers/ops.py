"""Every public op on one cohort: what it gives, and that a client's bits do not depend on its company."""

import torch

from fedlps_kernels import (
    gather_weights,
    importance_step,
    scatter_aggregate,
    scatter_update,
    select_units,
    unit_abs_sum,
)
from fedlps_kernels.gather_weights import scatter_weights
from tests.kernels.cases import Case
from tests.kernels.compare import assert_same


def results(
    case: Case, dtype: torch.dtype, device: str = "cpu", clients: slice = slice(None)
) -> dict[str, torch.Tensor]:
    """What every op makes of these clients of the case, on a device; every call draws the same numbers."""
    case = Case(case.layout, case.kept, case.counts, torch.Generator().manual_seed(5))
    layout, groups, cohort, units = case.layout, case.layout.groups, case.clients, case.layout.units
    drawn = {
        name: case.values(*shape, dtype=dtype).to(device)
        for name, shape in {
            "w": (cohort, layout.parameters),
            "velocity": (cohort, layout.parameters),
            "compact": (cohort, case.capacity),
            "anchor": (layout.parameters,),
            "d": (cohort, units),
            "a": (cohort, units),
            "t": (cohort, units),
        }.items()
    }
    w, velocity, compact, d, a, t = (drawn[name][clients] for name in ("w", "velocity", "compact", "d", "a", "t"))
    kept, counts = case.kept[clients].to(device), case.counts[clients].to(device)
    weights = case.values(cohort).abs().where(torch.arange(cohort) != 1, 0)[clients].to(device)
    found = {
        "unit_abs_sum": unit_abs_sum(w, layout),
        "select_units": select_units(d, counts, groups),
        "importance_step": importance_step(d, a, t, groups, lr=0.5, lam=2.0, kappa=0.25),
        "gather_weights": gather_weights(w, kept, counts, layout, case.capacity),
        "gather_weights, shared": gather_weights(drawn["anchor"][None], kept, counts, layout, case.capacity),
        "scatter_weights": scatter_weights(compact, kept, counts, layout),
    }
    if clients == slice(None):
        for rule in ("sum", "holders"):
            arguments = drawn["anchor"], compact, kept, counts, weights, layout, rule
            found[f"scatter_aggregate {rule}"] = scatter_aggregate(*arguments)
    numbers = {"lr": 0.5, "pull": 0.25, "weight_decay": 0.5, "clip": 1.0, "momentum": 0.5, "velocity": velocity}
    scatter_update(w, compact, drawn["anchor"], kept, counts, layout, **numbers)
    return {**found, "scatter_update": w, "velocity": velocity}


def alone_as_together(case: Case, dtype: torch.dtype, device: str = "cpu") -> None:
    """Each client's results alone are those among the others, to the bit."""
    together = results(case, dtype, device)
    for client in range(case.clients):
        for name, got in results(case, dtype, device, slice(client, client + 1)).items():
            assert_same(f"{name}, client {client}", got[0], together[name][client])
