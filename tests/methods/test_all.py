"""What holds for every method there is: a new one is covered by being registered."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

import fedlps
from fedlps.cli import main
from fedlps.engine.cohort import Cohort, from_batches
from fedlps.engine.cpu import CpuExecutor
from fedlps.engine.plan import Plan
from fedlps.engine.result import LocalResult, Submodels
from fedlps.errors import InputError
from fedlps.methods import METHODS
from fedlps.models import ZOO
from fedlps.program import initial_parameters
from fedlps.recipe.federation import Round
from fedlps.run.format import MANIFEST
from fedlps.run.keys import rows_of
from fedlps.run.resolve import resolve
from fedlps.run.store import RunStore
from fedlps.simulation import Simulation
from fedlps.trace import derive
from tests.methods.terms import documented, used
from tests.running import CLOCKS, model_of

SMALL: dict[str, object] = {
    "clients": 6, "fraction": 0.5, "epochs": 1, "rounds": 4, "split.test_per_class": 10, "checkpoint_every": 1,
}  # fmt: skip
SPENT = ("flops_paper", "flops_executed", "bytes_up", "bytes_down", "time_simulated")

CONVERGED: dict[str, tuple[str, float]] = {
    "cs": ("test_global", 20),
    "depthfl": ("test_global", 45),
    "ditto": ("test_last", 88),
    "efd": ("test_global", 57),
    "fedavg": ("test_global", 68),
    "fedavg-ft": ("test_last", 86),
    "fedlps": ("test_last", 81),
    "fedmp": ("test_global", 52),
    "fedp3": ("test_last", 83),
    "fedper": ("test_last", 87),
    "fedprox": ("test_global", 68),
    "fedrep": ("test_last", 52),
    "fedrolex": ("test_global", 62),
    "fedspa": ("test_last", 82),
    "fjord": ("test_global", 64),
    "flash-jmwst": ("test_global", 25),
    "flash-spdst": ("test_global", 36),
    "hermes": ("test_last", 69),
    "hetero-flash": ("test_global", 34),
    "heterofl": ("test_global", 59),
    "local": ("test_last", 88),
    "lotteryfl": ("test_last", 34),
    "oort": ("test_global", 79),
    "per-fedavg": ("test_last", 88),
    "prunefl": ("test_global", 53),
    "refl": ("test_global", 67),
}
"""Per method: the metric, and what its mean over five evaluations of rounds 32 to 40 of the preset digits reaches at
least: 15 points below what was measured with seed 0, 8 where that was above 85, 13 where it was below 50. Accuracies
swing by 10 points from round to round there. Guessing gives 10 %."""
OTHERWISE = ("test_global", 20.0)

every_method = pytest.mark.parametrize("method", METHODS)
Finished = Callable[[str], Path]
TERMS: dict[str, set[str]] = {}  # of the plans of each finished run


class StopError(Exception):
    """Ends a run from outside."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The finished small run of a method, made when first asked for. Not to be changed."""
    made: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in made:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(CpuExecutor, "train", noting(TERMS.setdefault(method, set())))
                made[method] = small(tmp_path_factory.mktemp(method) / "run", method)
        return made[method]

    return run


def small(out: Path, method: str, **more) -> Path:
    """Four rounds on the digits, half of six clients in each."""
    return fedlps.run("digits", method=method, out=out, overrides=SMALL, **more).directory


def noting(terms: set[str]) -> Callable[..., LocalResult]:
    """The executor's `train`, which notes the terms of its plans."""
    train = CpuExecutor.train

    def noted(self, parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        terms.update(used(plan, self.program.units))
        return train(self, parameters, plan, cohort)

    return noted


def everything(directory: Path) -> dict[object, object]:
    """All that a run has stored, whatever its method calls it, but for measured times."""
    stored: dict[object, object] = {"model": (directory / "model.safetensors").read_bytes()}
    with RunStore.read(directory) as store:
        stored |= {name: values.tobytes() for name, values in store.metrics().items() if name not in CLOCKS}
    with closing(sqlite3.connect(directory / "run.db")) as database:
        for client, part, data in database.execute("SELECT id, part, data FROM clients"):
            stored[client, part] = data
        for name, *contents in database.execute("SELECT name, dtype, shape, data FROM tensors"):
            if name not in ("timed", MANIFEST):
                stored["tensor", name] = contents
    return stored


def differences(directory: Path, other: Path) -> list[object]:
    """What two runs have stored differently, by name."""
    own, others = everything(directory), everything(other)
    return sorted(map(str, (name for name in own.keys() | others.keys() if own.get(name) != others.get(name))))


@every_method
def test_a_stopped_run_goes_on_bit_for_bit(finished: Finished, tmp_path, method) -> None:
    def stop(number: int, metrics: object) -> None:
        if number == 2:
            raise StopError

    with pytest.raises(StopError):
        small(tmp_path / "run", method, on_round=stop)
    run = fedlps.run(out=tmp_path / "run", resume=True)
    assert run.metrics["round"].tolist() == [1, 2, 3, 4]
    assert differences(run.directory, finished(method)) == []


@every_method
def test_clients_trained_one_at_a_time_give_the_same_bits(finished: Finished, tmp_path, monkeypatch, method) -> None:
    """The last client first, each in a plan and a cohort of its own."""
    train, calls = CpuExecutor.train, []

    def one_by_one(self, parameters: torch.Tensor, plan: Plan, cohort: Cohort) -> LocalResult:
        results: dict[int, LocalResult] = {}
        for client in reversed(range(len(cohort.clients))):
            calls.append(client)
            rows = [row for row, job in enumerate(plan.jobs) if job.client == client]
            jobs = tuple(replace(plan.jobs[row], client=0) for row in rows)
            own = train(self, parameters, replace(plan, jobs=jobs), alone(cohort, client))
            results |= {row: own[[position]] for position, row in enumerate(rows)}
        return joined([results[row] for row in range(len(plan.jobs))])

    monkeypatch.setattr(CpuExecutor, "train", one_by_one)
    assert differences(small(tmp_path / "run", method), finished(method)) == []
    assert len(calls) >= 12, "four rounds of three clients"


@every_method
def test_the_order_of_the_clients_changes_nothing_but_rounding(tmp_path, monkeypatch, method) -> None:
    """The cohort backwards."""
    given = {**SMALL, "rounds": 1, "model.name": "mlp", "model.hidden": [8, 6]}
    runs = [fedlps.run("digits", method=method, out=tmp_path / "run", overrides=given)]
    begin = Simulation._begin

    def backwards(self, number: int) -> Round:
        round_ = begin(self, number)
        arrays = {name: getattr(round_, name)[::-1].copy() for name in ("clients", "capabilities", "ratios")}
        return replace(round_, training=round_.training[::-1], **arrays)

    monkeypatch.setattr(Simulation, "_begin", backwards)
    runs.append(fedlps.run("digits", method=method, out=tmp_path / "backwards", overrides=given))
    own, other = (model_of(run.directory) for run in runs)
    numpy.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6)
    for name in SPENT:
        numpy.testing.assert_allclose(runs[0].metrics[name], runs[1].metrics[name], rtol=1e-12)


def alone(cohort: Cohort, client: int) -> Cohort:
    """A cohort of one of its clients."""
    own = [client]
    batches = [list(cohort.batches(client))]
    rest = {"epoch_steps": cohort.epoch_steps[own], "seeds": cohort.seeds[own]}
    return from_batches(cohort.clients[own], batches, cohort.sizes[own], **rest)


def joined(results: list[LocalResult]) -> LocalResult:
    """One result of several, in their order."""
    capacity = max(result.submodels.parameters.shape[1] for result in results)
    parameters = [
        torch.nn.functional.pad(vectors, (0, capacity - vectors.shape[1]))
        for vectors in (result.submodels.parameters for result in results)
    ]
    models = Submodels(
        torch.cat([result.submodels.kept for result in results]),
        torch.cat([result.submodels.counts for result in results]),
        torch.cat(parameters),
    )
    arrays = {
        name: numpy.concatenate([getattr(result, name) for result in results])
        for name in ("losses", "hits", "seen", "diverged")
    }
    probes = {name: [value for result in results for value in result.probes[name]] for name in results[0].probes}
    return LocalResult(models, torch.cat([result.redundancy for result in results]), probes=probes, **arrays)


@every_method
def test_metrics_are_finite_and_costs_grow(finished: Finished, method) -> None:
    with RunStore.read(finished(method)) as store:
        metrics = store.metrics()
    assert [name for name, values in metrics.items() if not numpy.isfinite(values).all()] == []
    tested = {name: values for name, values in metrics.items() if name.startswith("test_")}
    assert "test_global" in tested
    assert all((values >= 0).all() and (values <= 100).all() for values in tested.values())
    learns = not numpy.array_equal(model_of(finished(method)), initial_of(method))
    for name in SPENT:
        added = numpy.diff(metrics[name], prepend=0)
        assert (added >= 0).all(), name
        if learns or not name.startswith("bytes"):  # where no model is shared, nothing need travel
            assert added[0] > 0, name
            assert metrics[name][-1] > metrics[name][0], name


def initial_of(method: str) -> numpy.ndarray:
    parameters = {name: recipe.parameters for name, recipe in METHODS.items()}
    config = resolve("digits", SMALL, method, parameters, ZOO)
    shape = (1, 8, 8)
    program = derive(ZOO[config.model.name](shape, 10), shape)
    return initial_parameters(program, config.seed).astype(numpy.float32)


@every_method
def test_the_table_of_terms_says_what_it_uses(finished: Finished, method) -> None:
    """`docs/plan.md` against every plan of four rounds, those of the prologue and of evaluation among them."""
    finished(method)
    always, sometimes = documented()[method]
    assert always <= TERMS[method]
    assert TERMS[method] <= always | sometimes


@every_method
def test_what_is_shown_of_it(capsys, method) -> None:
    assert main(["methods", method]) == 0
    shown = capsys.readouterr().out
    what, reference, *_ = METHODS[method].paper.split("\n\n")
    assert " ".join(what.split()) in shown
    assert " ".join(reference.split()) in shown
    assert len(what.splitlines()) <= 2, "a line that says what it does, then the reference"
    for row in rows_of(METHODS[method].parameters, "method.", "required"):
        assert row.default != "required", row.key
        assert len(row.description) > 5, row.key
        assert f"{row.key}={row.default}\n" in shown
        assert row.description in shown
    assert main(["methods"]) == 0
    assert f"{method}\n" in capsys.readouterr().out


@every_method
def test_an_unknown_parameter_is_one_line(tmp_path, method) -> None:
    with pytest.raises(InputError, match=r"method\.nonsense") as caught:
        small_with(tmp_path / "run", method, "method.nonsense", 1)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "key"),
    [(name, row.key) for name, recipe in METHODS.items() for row in rows_of(recipe.parameters, "method.", "required")],
)
def test_parameters_out_of_range_are_one_line(tmp_path, method, key) -> None:
    """What no parameter may be: a word that it does not know, not a number, below all, a list of such."""
    for value in ("nonsense", float("nan"), -1e30, ["nonsense"]):
        with pytest.raises(InputError) as caught:
            small_with(tmp_path / "run", method, key, value)
        assert len(str(caught.value).splitlines()) == 1
        assert key in str(caught.value)
        assert not (tmp_path / "run").exists()


def small_with(out: Path, method: str, key: str, value: object) -> None:
    fedlps.run("digits", method=method, out=out, overrides={**SMALL, key: value})


@pytest.mark.slow
@every_method
def test_it_learns_the_digits(tmp_path, method) -> None:
    metric, least = CONVERGED.get(method, OTHERWISE)
    overrides = {"rounds": 40, "evaluation.every": 2}
    run = fedlps.run("digits", method=method, out=tmp_path / "run", overrides=overrides)
    assert run.metrics[metric][31::2].mean() >= least
