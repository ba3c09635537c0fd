"""A hundred submodels on 200 images each: python -m pytest -s bench/rounds/evaluation.py

Save with --benchmark-json=bench/results/evaluation.json.
"""

import numpy
import torch

from bench.rounds.case import RATIOS, Case, fedavg_case
from bench.rounds.engine import definition, engine, instructions, torch_threads
from bench.rounds.masked import Masked
from bench.rounds.measure import Claim, compare
from bench.rounds.submodels import drawn, widened
from fedlps.cost import submodel_weights

CLIENTS, IMAGES, REPEATS = 100, 200, 10


def workload(dtype: torch.dtype) -> Case:
    """Clients with images of their own; nothing is trained."""
    return fedavg_case(CLIENTS, samples=IMAGES, epochs=1, dtype=dtype)


def check(case: Case) -> None:
    """The engine and the gated loop against the definition: the same hits, losses to rounding."""
    models = drawn(case, [ratio for ratio in RATIOS for _ in range(CLIENTS // len(RATIOS))])
    samples = [own.numpy() for own in torch.arange(CLIENTS * IMAGES).split(IMAGES)]
    wanted = definition(case).evaluate(models, samples, "test")
    tolerance = 1e-10 if case.parameters.dtype == torch.float64 else 1e-5
    got = engine(case).evaluate(models, samples, "test")
    hits, losses = Masked(case).evaluate(*widened(case, models), [torch.from_numpy(own) for own in samples])
    for name, summed in (("engine", got.losses), ("masked", losses.numpy())):
        numpy.testing.assert_allclose(summed, wanted.losses, rtol=tolerance, err_msg=name)
    if case.parameters.dtype == torch.float64:  # float32 may answer otherwise where two logits nearly agree
        assert all(map(numpy.array_equal, got.hits, wanted.hits))
        assert hits.tolist() == [own.sum() for own in wanted.hits]


def test_evaluation(benchmark):
    """Twenty models of each ratio 1 .. 1/16 against the gated loop in batches of all 200."""
    check(workload(torch.float64))
    case = workload(torch.float32)
    check(case)
    models = drawn(case, [ratio for ratio in RATIOS for _ in range(CLIENTS // len(RATIOS))])
    indices = list(torch.arange(CLIENTS * IMAGES).split(IMAGES))
    arrays = [own.numpy() for own in indices]
    single, double, masked = engine(case, threads=1), engine(case, threads=2), Masked(case)
    wide = widened(case, models)

    def loop(threads: int) -> object:
        with torch_threads(threads):
            return masked.evaluate(*wide, indices)

    def narrow() -> object:
        with instructions("avx2"):
            return single.evaluate(models, arrays, "test")

    calls = {
        "engine, 1 thread": lambda: single.evaluate(models, arrays, "test"),
        "engine, 2 threads": lambda: double.evaluate(models, arrays, "test"),
        "engine, avx2, 1 thread": narrow,
        "masked, 1 thread": lambda: loop(1),
        "masked, 2 threads": lambda: loop(2),
    }
    both = ["masked, 1 thread", "masked, 2 threads"]
    claims = [
        Claim("masked, one thread each", both[:1], "engine, 1 thread", 18, 35),
        Claim("masked, best threads, engine two", both, "engine, 2 threads", 18, 35),
        Claim("masked, best threads, engine one", both, "engine, 1 thread", 18, 35),
    ]
    flops = IMAGES * sum(
        2 * layer.positions * weights
        for counts in models.counts.tolist()
        for layer, weights in zip(case.program.layers, submodel_weights(case.program, counts), strict=True)
    )
    compare(benchmark, calls, claims, repeats=REPEATS, flops=float(flops))
