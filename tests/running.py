"""Runs small enough to be made by the dozen: four clients on the embedded digits."""

from collections.abc import Mapping
from pathlib import Path

import numpy

import fedlps
from fedlps.launch import Run
from fedlps.run.store import RunStore

TINY: dict[str, object] = {
    "clients": 4, "fraction": 0.5, "epochs": 1, "rounds": 4, "split.test_per_class": 10,
    "model.name": "mlp", "model.hidden": [12],
}  # fmt: skip
CLOCKS = ("train_s", "eval_s")  # measured times, which differ from run to run


def tiny(out: Path, overrides: Mapping[str, object] | None = None, method: str = "fedlps", **more) -> Run:
    """Run the tiny configuration with these overrides on top."""
    return fedlps.run("digits", method=method, out=out, overrides={**TINY, **(overrides or {})}, **more)


def contents(directory: Path) -> dict[object, object]:
    """Everything a run has stored, but for measured times: metrics, global tensors, client state; bits as bytes."""
    stored: dict[object, object] = {}
    with RunStore.read(directory) as store:
        for name, values in store.metrics().items():
            if name not in CLOCKS:
                stored["metric", name] = values.tobytes()
        for name in ("global", "counted", "tested_last", "tested_best"):
            values = store.get_tensor(name)
            stored["tensor", name] = None if values is None else values.tobytes()
        timed = store.get_tensor("timed")
        stored["tensor", "timed"] = None if timed is None else float(timed[0])
        for part in ("importance", "last", "best", "bandit"):
            for client in store.clients(part):
                for name, values in (store.get_client(client, part) or {}).items():
                    stored[client, part, name] = (values.dtype.str, values.shape, values.tobytes())
    model = directory / "model.safetensors"
    stored["model"] = model.read_bytes() if model.exists() else None
    return stored


def model_of(directory: Path) -> numpy.ndarray:
    """The stored global parameters, (P,)."""
    with RunStore.read(directory) as store:
        values = store.get_tensor("global")
    assert values is not None
    return values
