"""`python -m bench.floors`: what a local step of VGG11 cannot do without, on paper, and the launches that it makes.

FLOPs and bytes follow from the program's shapes and the clients' counts: every operand is read once and every result
written once by the launch that wants it, at the bytes of its precision and without pads. A floor is the longer of both
at the ceilings assumed below. Launches are counted while the executor makes them, with nothing behind them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bench.kernels.device import Ceilings
from bench.launches import launches_of_a_step
from bench.rounds.case import RATIOS, vgg_network
from fedlps.engine.cuda.launches import Precision
from fedlps.engine.cuda.network import Network, Product, network
from fedlps.program import Program
from fedlps.trace import derive

COPY = 4.3e12  # bytes/s, read and written: a device copy on an H200
RATES: dict[Precision, float] = {"bf16": 788e12, "tf32": 394e12, "fp32": 67e12}  # FLOP/s; TF32 taken for half of bf16
ASSUMED = {precision: Ceilings(COPY, rate) for precision, rate in RATES.items()}
BATCH = 20
COHORTS = (10, 100, 1000)
SINGLE, INDEX = 4, 8  # bytes


@dataclass(frozen=True)
class Work:
    """Of the launches of one name for all clients: floating-point operations of products, bytes read and written."""

    name: str
    flops: int
    bytes: int

    def seconds(self, ceilings: Ceilings) -> float:
        """The floor."""
        return max(self.flops / ceilings.product, self.bytes / ceilings.copy)


def step(program: Program, counts: torch.Tensor, batch: int, precision: Precision) -> list[Work]:
    """A usual FedLPS step whose selections change. counts: (C, G), kept units. Works of one name together."""
    totals = dict[str, list[int]]()
    for work in _launched(program, network(program), counts.to(torch.int64), batch, precision):
        total = totals.setdefault(work.name, [0, 0])
        total[0] += work.flops
        total[1] += work.bytes
    return [Work(name, *total) for name, total in totals.items()]


def seconds(works: Sequence[Work], ceilings: Ceilings) -> float:
    """The floor of all, one after another."""
    return sum(work.seconds(ceilings) for work in works)


def _launched(
    program: Program, chain: Network, counts: torch.Tensor, batch: int, precision: Precision
) -> Iterator[Work]:
    kept = [activation.kept(counts) for activation in chain.activations]
    sizes = [batch * int(own.sum()) * one.positions for own, one in zip(kept, chain.activations, strict=True)]
    entry = 2 if precision == "bf16" else SINGLE
    weights = int(program.layout().compact_sizes(counts).sum())
    packs = 1 if precision == "bf16" else 2
    units = len(counts) * program.units
    yield Work("dropped sums", 0, SINGLE * dropped(program, chain, kept))
    yield Work("pack weights", 0, packs * weights * (SINGLE + entry))
    yield Work("gather batch", 0, sizes[0] * (1 + entry))
    for number, operation in enumerate(chain.operations):
        inputs, outputs = sizes[number], sizes[number + 1]
        if isinstance(operation, Product):
            layer = program.layers[operation.layer]
            held = int((kept[number + 1] * kept[number]).sum()) * layer.inner
            flops = 2 * batch * layer.positions * held
            yield Work(f"forward {operation.layer + 1}", flops, entry * (inputs + held + outputs))
            yield Work(f"weight gradient {operation.layer + 1}", flops, entry * (inputs + outputs) + SINGLE * held)
            if not operation.first:
                yield Work(f"input gradient {operation.layer + 1}", flops, entry * (inputs + held + outputs))
            continue
        if operation.norm is not None:
            yield Work("norm statistics", 0, entry * inputs)
            yield Work("norm gradient sums", 0, entry * (inputs + outputs))
        yield Work("norm, ReLU, pool", 0, entry * (inputs + outputs))
        yield Work("norm, ReLU, pool gradient", 0, entry * (2 * inputs + outputs))
    yield Work("loss", 0, 2 * entry * sizes[-1])
    yield Work("importance step", 0, 3 * SINGLE * units)
    yield Work("update", 0, SINGLE * (3 * weights + program.size))  # gradient, weight, weight; one reference for all
    yield Work("select units", 0, 2 * SINGLE * units)


def dropped(program: Program, chain: Network, kept: Sequence[torch.Tensor]) -> int:
    """Entries of kept rows that lie in columns which are not kept."""
    found = 0
    for number, operation in enumerate(chain.operations):
        if isinstance(operation, Product) and operation.group >= 0:
            layer = program.layers[operation.layer]
            found += int((kept[number + 1] * (layer.columns - kept[number])).sum()) * layer.inner
    return found


def cohort(program: Program, clients: int, precision: Precision) -> list[Work]:
    """Clients of ratios 1 to 1/16 in equal parts."""
    counts = torch.tensor([program.counts(ratio) for ratio in RATIOS]).repeat(clients // len(RATIOS), 1)
    return step(program, counts, BATCH, precision)


def once_a_round(program: Program, clients: int) -> list[Work]:
    """What is not part of a step: masters are set, summed and read whole or compact."""
    masters = SINGLE * clients * program.size
    kept = SINGLE * sum(int(program.layout().compact_sizes(torch.tensor([program.counts(one)]))) for one in RATIOS)
    return [Work("masters", 0, masters), Work("unit_abs_sum", 0, masters), Work("compact", 0, 2 * kept * clients // 5)]


def main() -> None:
    """Prints the tables of docs/performance.md."""
    shown = vgg_network()
    program = derive(shown.module, shown.shape)
    print(f"VGG11, batch {BATCH}, ratios 1 to 1/16 in equal parts, P = {program.size:,}\n")
    print("| one step | " + " | ".join(f"{clients} clients" for clients in COHORTS) + " |")
    print("|---|" + "---|" * len(COHORTS))
    rows: dict[str, list[str]] = {}
    for clients in COHORTS:
        for precision in RATES:
            works = cohort(program, clients, precision)
            flops, moved = sum(work.flops for work in works), sum(work.bytes for work in works)
            floor = seconds(works, ASSUMED[precision])
            products = seconds([work for work in works if work.flops], ASSUMED[precision])
            rows.setdefault("TFLOP of products", [])
            if precision == "bf16":
                rows["TFLOP of products"].append(f"{flops / 1e12:.3g}")
            rows.setdefault(f"{precision}: GB; floor of products; of all, ms", []).append(
                f"{moved / 1e9:.3g}; {products * 1e3:.3g}; {floor * 1e3:.3g}"
            )
    for name, columns in rows.items():
        print(f"| {name} | {' | '.join(columns)} |")
    print("\n| 100 clients: launch | TFLOP | GB, bf16 | floor bf16, us | TF32 | fp32 | launches bf16 | TF32 |")
    print("|---|---|---|---|---|---|---|---|")
    counted = {precision: launches_of_a_step(precision) for precision in ("bf16", "tf32")}
    tables = {precision: {work.name: work for work in cohort(program, 100, precision)} for precision in RATES}
    for name, work in tables["bf16"].items():
        floors = [f"{1e6 * tables[precision][name].seconds(ASSUMED[precision]):.3g}" for precision in RATES]
        made = [str(counted[precision].pop(name, "")) for precision in counted]
        print(f"| {name} | {work.flops / 1e12:.2g} | {work.bytes / 1e9:.2g} | {' | '.join([*floors, *made])} |")
    for name in list(counted["bf16"]):
        print(f"| {name} | | | | | | {' | '.join(str(own[name]) for own in counted.values())} |")
    every = [sum(launches_of_a_step(precision).values()) for precision in ("bf16", "tf32")]
    print(f"| all | | | | | | {' | '.join(map(str, every))} |\n")
    print("| once a round | " + " | ".join(f"{clients} clients, GB; ms" for clients in COHORTS) + " |")
    print("|---|" + "---|" * len(COHORTS))
    for works in zip(*(once_a_round(program, clients) for clients in COHORTS), strict=True):
        columns = [f"{work.bytes / 1e9:.3g}; {1e3 * work.seconds(ASSUMED['fp32']):.3g}" for work in works]
        print(f"| {works[0].name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
