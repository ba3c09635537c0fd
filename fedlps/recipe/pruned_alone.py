"""Before round 1 one fast client trains and reconfigures the mask alone; what that costs is told apart."""

from __future__ import annotations

import numpy
import torch

from fedlps.cost import VALUE_BYTES
from fedlps.engine.cohort import cohort
from fedlps.engine.plan import Hold, Job, Plan
from fedlps.errors import InputError
from fedlps.randomness import Purpose, stream
from fedlps.recipe import capability
from fedlps.recipe.accounting import Accounting, Bytes
from fedlps.recipe.complement import pruned
from fedlps.recipe.consensus import BEFORE, keep_masks, server_masks
from fedlps.recipe.federation import Federation, Outcome, Round
from fedlps.recipe.first_stage import COST
from fedlps.recipe.method import Prologue
from fedlps.recipe.objective import cross_entropy
from fedlps.recipe.reconfiguration import Reconfiguration, squared, steps_of
from fedlps.recipe.weight_masks import capacity, maskable, ones

STEADY, CHANGE = 5, 0.1  # it ends after so many relative changes of density in a row below this


def pruned_alone(rule: Reconfiguration, rounds: int, density: float, number: int) -> Prologue:
    """The model and the mask after so many rounds of one of the fastest clients, drawn at random.

    density: of the first mask, the largest initial weights of each layer. number: the method's.
    """

    def prologue(federation: Federation, initial: torch.Tensor) -> torch.Tensor:
        config, places = federation.config, maskable(federation.program)
        mask = pruned(initial, places, 1 - density)
        parameters = torch.where(mask, initial, 0)
        speeds = capability.speeds(config, 0)
        generator = stream(config.seed, Purpose.METHOD + number, 0, 0, 0)
        client = generator.choice(numpy.flatnonzero(speeds == speeds.max()), size=1)
        own = federation.split.client(int(client[0])).train
        spent, changes, before = numpy.zeros(2, dtype=numpy.int64), [], sum(ones(mask, places))
        for step in range(rounds):
            round_ = Round(step, config.lr, client, (own,), speeds[client], numpy.ones(1), parameters)
            hold = Hold(federation.all_counts, federation.all_units, mask)
            jobs = cross_entropy()(federation, round_, (hold,)).jobs
            plan = Plan(jobs, frozenset({"parameters", "gradients"}))
            # batches of their own: no round of the run has such a number
            batches = cohort(
                config.seed, config.rounds + step, client, (own,), epochs=config.epochs, batch=config.batch
            )
            result = federation.executor.train(parameters, plan, batches)
            if result.diverged[0]:
                raise InputError(f"lr: got {config.lr:g}, with which client {client[0]} diverged before round 1")
            (cost,) = Accounting()(federation, round_, plan)
            spent += (cost.flops_paper, cost.flops_executed)
            trained, steps = result.probes["parameters"][0], steps_of(federation, len(own))
            importance = squared(result.probes["gradients"], [len(own)])
            mask = rule.mask(federation, trained, mask, importance, steps, step)
            parameters = torch.where(mask, trained, 0)
            after = sum(ones(mask, places))
            changes.append(abs(after - before) / max(before, 1))
            before = after
            if len(changes) >= STEADY and max(changes[-STEADY:]) < CHANGE:
                break
        keep_masks(federation, [mask])
        federation.store.put_tensor(COST, spent)
        return parameters

    return prologue


def density_and_cost(federation: Federation, outcome: Outcome, parameters: torch.Tensor) -> dict[str, float]:
    """density: of the maskable weights under the server's mask; first_stage_*: what came before round 1."""
    places, spent = maskable(federation.program), federation.store.get_tensor(COST)
    flops, executed = (0, 0) if spent is None else spent.tolist()
    return {
        "density": sum(ones(server_masks(federation)[0], places)) / capacity(places),
        "first_stage_flops_paper": float(flops),
        "first_stage_flops_executed": float(executed),
    }


def reconfigured_accounting(rule: Reconfiguration) -> Accounting:
    """Up: the values inside the mask; when a reconfiguration is due also all gradients and a bit per maskable weight.

    Down: the values inside the mask, and the mask if it is new.
    """
    return Accounting(up=_up(rule), down=_down)


def _up(rule: Reconfiguration) -> Bytes:
    def count(federation: Federation, round_: Round, position: int, job: Job) -> int:
        gradients = VALUE_BYTES * federation.program.size + _mask_bytes(federation)
        return _values(federation) + (gradients if rule.due(round_.number) else 0)

    return count


def _down(federation: Federation, round_: Round, position: int, job: Job) -> int:
    mask, before = server_masks(federation)[0], server_masks(federation, BEFORE)[0]
    new = not torch.equal(mask, before) or (round_.number == 0 and not mask.all())
    return _values(federation) + (_mask_bytes(federation) if new else 0)


def _values(federation: Federation) -> int:
    return VALUE_BYTES * int(server_masks(federation)[0].sum())


def _mask_bytes(federation: Federation) -> int:
    return -(-capacity(maskable(federation.program)) // 8)
