"""When training goes to a GPU, when it does not, and what is said about it."""

from functools import partial

import numpy
import pytest
import torch

import fedlps
from fedlps.engine import executors
from fedlps.engine.cuda import presence
from fedlps.engine.cuda.executor import CudaExecutor
from fedlps.engine.executors import Request, check, choose
from fedlps.engine.plan import Job, Plan, Segment
from fedlps.errors import InputError
from fedlps_kernels import native
from tests.engine.agreement import agree
from tests.engine.drawn_terms import Setting, branched, plain
from tests.engine.on_cuda import PROBES

WIDTH_METHODS = ("fedlps", "heterofl", "fedrolex", "fedmp", "efd", "fjord")
TINY = {"clients": 4, "fraction": 0.5, "epochs": 1, "rounds": 2}


class Machine:
    """What torch, the native module and triton say of a machine. runtime, driver: 1000 * major + 10 * minor."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.torch()
        self.module({"runtime": 13000, "driver": 13000, "capabilities": [(9, 0)]})
        patch.setattr(native, "why_no_cuda", native.why_no_cuda.__wrapped__)  # its answer is kept
        patch.setattr(presence.importlib.util, "find_spec", lambda _: object())

    def torch(self, cuda: str | None = "13.0", available: bool = True) -> None:
        self.patch.setattr(torch.version, "cuda", cuda)
        self.patch.setattr(torch.cuda, "is_available", lambda: available)
        self.patch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")

    def module(self, cuda: dict[str, object] | None) -> None:
        class Native:
            def cuda(self):
                return cuda

        self.patch.setattr(native, "module", Native)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_machine_with_everything_serves(machine: Machine) -> None:
    assert presence.why_not() == ""
    assert presence.versions().startswith(
        "driver for CUDA 13.0; runtime of torch 13.0, kernels built with 13.0; triton "
    )
    for executor in ("auto", "cuda"):
        for device in ("auto", "cuda"):
            for precision in ("fp32", "tf32", "bf16"):
                check(Request(executor, device, precision))


def test_what_is_missing_is_said_in_one_line(machine: Machine) -> None:
    def why() -> str:
        reason = presence.why_not()
        for request, key in ((Request(device="cuda"), "device"), (Request(executor="cuda"), "executor")):
            with pytest.raises(InputError) as error:
                check(request)
            others = "auto, cpu" if key == "device" else "auto, cpu, reference"
            assert str(error.value) == f"{key}: got cuda, but {reason}; allowed here: {others}"
        with pytest.raises(InputError, match=r"^precision: got tf32, but on a CPU everything is computed in fp32$"):
            check(Request(precision="tf32"))
        check(Request())
        return reason

    machine.patch.setattr(presence.importlib.util, "find_spec", lambda _: None)
    assert why() == "triton is not installed (pip install fedlps[gpu])"
    machine.torch(available=False)
    assert why() == "torch finds no CUDA device or driver"
    machine.module(None)
    assert why() == "the native module has no CUDA part: install where nvcc is found, or with FEDLPS_CUDA=on"
    machine.module({"runtime": 13000, "driver": 12080, "capabilities": []})
    assert why() == "the driver serves CUDA 12.8, older than the runtime's 13.0: install a newer driver"
    machine.module({"runtime": 12080, "driver": 12040, "capabilities": [(7, 5)]})
    assert why() == "GPU 0 is sm_75, older than sm_80"
    machine.torch(cuda=None)
    assert why() == f"torch {torch.__version__} is built without CUDA"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("cpu", "cuda"), "device: got cuda, but executor=cpu runs on a CPU; allowed with it: auto, cpu"),
        (
            Request("reference", "cuda"),
            "device: got cuda, but executor=reference runs on a CPU; allowed with it: auto, cpu",
        ),
        (Request("cuda", "cpu"), "executor: got cuda, but device=cpu; allowed with it: auto, cpu, reference"),
        (Request("auto", "cpu", "bf16"), "precision: got bf16, but on a CPU everything is computed in fp32"),
        (Request("cpu", "auto", "tf32"), "precision: got tf32, but on a CPU everything is computed in fp32"),
    ],
)
def test_keys_that_contradict_each_other(machine: Machine, request_: Request, says: str) -> None:
    with pytest.raises(InputError) as error:
        check(request_)
    assert str(error.value) == says


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's CPU is taken for a GPU: definitions in the kernels' place."""
    monkeypatch.setattr(presence, "why_not", lambda: "")
    monkeypatch.setattr(presence, "hardware", lambda: "a stand-in")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    monkeypatch.setattr(executors, "CudaExecutor", partial(CudaExecutor, device="cpu"))


@pytest.mark.usefixtures("stand_in")
def test_the_fastest_is_taken_and_told_what_it_needs() -> None:
    setting = Setting.of(plain, torch.float32)
    asked = Request(precision="tf32", evaluation_batch=7, memory=12345, batch=20)
    chosen, why = choose(asked, setting.program, plain(), setting.reference.samples)
    assert why == "cuda executor (a stand-in, tf32)"
    assert chosen.name == "cuda"
    engine = chosen.cuda
    assert (engine.evaluation_batch, engine.memory, engine.batch) == (7, 12345, 20)
    for request in (Request("cpu"), Request(device="cpu")):
        assert choose(request, setting.program, plain(), setting.reference.samples)[0].name == "cpu"


@pytest.mark.usefixtures("stand_in")
def test_a_model_that_it_does_not_run_goes_elsewhere() -> None:
    setting = Setting.of(branched, torch.float32)
    given = setting.program, branched(), setting.reference.samples
    chosen, why = choose(Request(), *given)
    assert chosen.name == "cpu"
    assert why.endswith("; not on the GPU: the model has 3 exits, the CUDA engine runs one")
    for request, key in (
        (Request("cuda"), "executor: got cuda"),
        (Request(device="cuda"), "device: got cuda"),
        (Request(precision="bf16"), "precision: got bf16"),
    ):
        with pytest.raises(InputError, match=f"^{key}, but the model has 3 exits, the CUDA engine runs one; allowed"):
            choose(request, *given)


@pytest.mark.usefixtures("stand_in")
def test_plans_that_it_does_not_carry_go_to_the_cpu_and_that_is_said_once() -> None:
    setting, said = Setting.of(plain, torch.float32), []
    chosen, _ = choose(Request(), setting.program, plain(), setting.reference.samples, said.append)
    carried = Plan((Job(0, setting.units(0.6), (Segment(0.2),)),))
    other = Plan((Job(0, setting.units(0.6), (Segment(0.2),), penalty=0.1),), PROBES)
    for plan in (carried, other, other, carried):
        want = setting.reference.train(setting.start, plan, setting.cohort)
        agree(chosen.train(setting.start, plan, setting.cohort), want, 1e-4)
    assert said == ["trained by the cpu executor in fp32: cuda does not carry a group penalty"]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("method", [*WIDTH_METHODS, "hermes"])
def test_whole_runs_come_out_as_on_the_cpu(tmp_path, method: str, capsys) -> None:
    """With bytes from the store; Hermes has a term that is not carried."""
    runs = [
        fedlps.run("digits", method=method, out=tmp_path / device, overrides={**TINY, "device": device})
        for device in ("auto", "cpu")
    ]
    assert runs[0].notes[0] == "cuda executor (a stand-in, fp32)"
    assert ("does not carry" in capsys.readouterr().err) == (method == "hermes")
    for name, values in runs[0].metrics.items():
        if not name.endswith("_s"):
            numpy.testing.assert_allclose(values, runs[1].metrics[name], rtol=1e-4, err_msg=name)
    assert "gpu: a stand-in" in (tmp_path / "auto" / "run.yaml").read_text()


@pytest.mark.usefixtures("stand_in")
def test_a_bound_that_is_too_small_is_one_line(tmp_path) -> None:
    with pytest.raises(
        InputError, match=r"^memory: got 1000 bytes, but one client takes \d+ of a GPU; allowed: so many"
    ):
        fedlps.run("digits", out=tmp_path / "run", overrides={**TINY, "memory": 1000})
