import subprocess
import sys

import numpy
import pytest
from pydantic import ValidationError

from fedlps.errors import InputError
from fedlps.run.config import RESUMABLE, Group
from fedlps.run.keys import explain
from fedlps.run.resolve import merge_for_resume, presets, resolve, values_of
from tests.run.configured import MODELS, Parameters, configured, configured_with


def message(*overrides: str, preset: str = "digits", method: str = "fedlps") -> str:
    with pytest.raises(InputError) as caught:
        configured(*overrides, preset=preset, method=method)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# design section 8's table, and section 9's presets
DEFAULTS = {
    "seed": 0,
    "objective.mu": 1,
    "objective.lambda": 1,
    "objective.norm": "mean",
    "importance.init": "magnitude",
    "importance.pattern": "learned",
    "importance.kappa": 0,
    "capability.mode": "dynamic",
    "capability.levels": "high",
    "evaluation.every": 1,
    "evaluation.batch": 200,
    "aggregation.rule": "residual",
    "aggregation.noise": 0,
    "cost.flops_per_second": 727e9,
    "cost.bytes_per_second": 14e6,
    "cost.alpha": 1,
    "faults.dropout": 0,
    "checkpoint_seconds": 60,
    "checkpoint_every": None,
    "threads": "all",
    "precision": "fp32",
    "executor": "auto",
    "device": "auto",
    "memory": "auto",
    "ratio.rule": "p-ucbv",
    "ratio.arms": (0, 1),
    "ratio.initial": 5,
    "ratio.rho": 0.5,
    "ratio.delta": -0.05,
}
COMMON = {"rounds": 100, "epochs": 5, "lr": 0.1, "decay": 0.998, "momentum": 0, "weight_decay": 1.2e-6, "clip": 0}
MNIST = {"data.name": "mnist", "clients": 100, "fraction": 0.1, "batch": 32, "split.shard_size": 100}
MNIST |= {"split.kind": "pathological", "split.shards_per_client": 2, "split.test_per_class": 100}
DIGITS = {"data.name": "digits", "clients": 30, "fraction": 0.2, "batch": 10, "split.shard_size": 22}
DIGITS |= {"split.kind": "pathological", "split.shards_per_client": 2, "split.test_per_class": 30}
FLASH = MNIST | {"rounds": 600, "epochs": 1, "decay": 0.99540542, "weight_decay": 0, "split.test_per_class": 892}
FLASH = {key: value for key, value in FLASH.items() if not key.startswith("split.sh")} | {"model.name": "mnist_cnn"}
SCALE = {key: value for key, value in MNIST.items() if not key.startswith("split.sh")} | {"model.name": "mnist_cnn"}
SCALE |= {"rounds": 20, "clients": 1000, "evaluation.every": 20, "data.share": True}
SCALE |= {"split.kind": "iid", "split.samples": 100, "split.test_per_class": 10}
COLOUR = {"clients": 50, "fraction": 0.2, "batch": 20, "split.kind": "pathological"}


def _shards(per_client: int, size: int) -> dict[str, object]:
    return {"split.shards_per_client": per_client, "split.shard_size": size, "split.test_per_class": size}


PRESETS = {
    "cifar10": COLOUR | _shards(2, 100) | {"data.name": "cifar10", "model.name": "vgg11"},
    "cifar100": COLOUR | _shards(10, 80) | {"data.name": "cifar100", "model.name": "vgg13"},
    "digits": DIGITS | {"model.name": "digits_cnn", "capability.levels": "median"},
    "flash_iid": FLASH | {"split.kind": "iid", "split.samples": None},
    "flash_noniid": FLASH | {"split.kind": "dirichlet", "split.alpha": 1, "split.min_samples": 10},
    "mnist": MNIST | {"model.name": "mnist_cnn"},
    "mnist_mlp": MNIST | {"model.name": "mlp"},
    "scale": SCALE,
    "tinyimagenet": COLOUR | _shards(20, 40) | {"data.name": "tiny_imagenet", "model.name": "vgg16"},
}
DATA = {"data.root": None, "data.share": False, "data.partial": False}
METHOD = {"method.name": "fedlps", "method.scaler": True, "method.period": 3}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_and_the_defaults_are_those_of_the_specification(preset: str) -> None:
    assert values_of(configured(preset=preset)) == DEFAULTS | COMMON | DATA | METHOD | PRESETS[preset]


def test_presets_are_listed_with_a_line_each() -> None:
    assert list(presets()) == sorted(PRESETS)
    assert all(line and "\n" not in line for line in presets().values())


def test_every_key_is_explained() -> None:
    rows = explain(Parameters)
    assert all(row.allowed and row.default and row.description for row in rows)
    assert {row.key for row in rows} >= set(values_of(configured()))
    assert {"split.alpha", "split.samples", "split.lacking", "method.period"} <= {row.key for row in rows}
    by_key = {row.key: row for row in explain()}
    assert by_key["fraction"][1:3] == ("a number in (0, 1]", "preset")
    assert by_key["objective.norm"][1:3] == ("mean or sum", "mean")
    assert "method.period" not in by_key


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("lr=1e-3", "lr", 0.001),
        ("lr=1", "lr", 1.0),
        ("weight_decay=1E-5", "weight_decay", 1e-5),
        ("clients=1e3", "clients", 1000),
        ("ratio.arms=[0.5,1]", "ratio.arms", (0.5, 1.0)),
        ("ratio.arms=[1e-2, 1]", "ratio.arms", (0.01, 1.0)),
        ("ratio.rule=rcr", "ratio.rule", "rcr"),
        ("ratio.rule=0.5", "ratio.rule", 0.5),
        ("ratio.rule=1", "ratio.rule", 1.0),
        ("objective.lambda=2", "objective.lambda", 2.0),
        ("capability.levels=[1, 0.5]", "capability.levels", (1.0, 0.5)),
        ("data.root=/a=b", "data.root", "/a=b"),
        ("checkpoint_every=null", "checkpoint_every", None),
        ("threads=2", "threads", 2),
        ("memory=8e9", "memory", 8_000_000_000),
        ("method.scaler=false", "method.scaler", False),
        ("model.hidden=[20, 10]", "model.hidden", (20, 10)),
    ],
)
def test_overrides_from_the_command_line(override: str, key: str, value: object) -> None:
    got = values_of(configured(override))[key]
    assert got == value
    assert type(got) is type(value)


def test_overrides_from_python() -> None:
    config = configured_with({"ratio.rule": 0.5, "seed": numpy.int64(3), "ratio": {"arms": [0, numpy.float32(0.5)]}})
    assert (config.ratio.rule, config.seed, config.ratio.arms) == (0.5, 3, (0.0, 0.5))
    assert configured_with({}) == configured()
    with pytest.raises(InputError, match="seed: is given twice, as 1 and 2"):
        configured("seed=1", "seed=2")
    with pytest.raises(InputError, match=r"ratio\.rule: is given twice"):
        configured_with({"ratio.rule": 1, "ratio": {"rule": 0.5}})
    with pytest.raises(InputError, match=r"seed: got .*object object.*, expected a number"):
        configured_with({"seed": object()})
    with pytest.raises(InputError, match="overrides: got"):
        configured_with("seed=1")


BAD = [
    "seed=-1", "seed=1.5", "seed=true", "seed=", "rounds=0", "clients=0", "clients=x", "fraction=0", "fraction=1.1",
    "fraction=.nan", "epochs=0", "batch=0", "lr=0", "lr=.inf", "lr=fast", "lr=[1]", "lr=2020-01-01", "decay=0",
    "decay=1.1", "momentum=1", "momentum=-0.1", "weight_decay=-1", "clip=-1", "data.name=3", "data.root=3",
    "data.share=2", "data.partial=perhaps", "split.kind=sorted", "split.shards_per_client=0", "split.shard_size=0",
    "split.test_per_class=0", "model.name=3", "objective.mu=-1", "objective.lambda=-1", "objective.norm=max",
    "importance.init=zero", "importance.pattern=last", "importance.kappa=-1", "capability.mode=fixed",
    "capability.levels=most", "capability.levels=[0]", "capability.levels=[]", "evaluation.every=0",
    "evaluation.batch=0", "aggregation.rule=median", "aggregation.noise=-1", "cost.flops_per_second=0",
    "cost.bytes_per_second=0", "cost.alpha=-1", "faults.dropout=1.5", "faults.dropout=-0.1", "checkpoint_seconds=-1",
    "checkpoint_every=0", "threads=0", "threads=some", "precision=fp16", "executor=gpu", "device=tpu", "memory=0",
    "memory=lots", "ratio.rule=0", "ratio.rule=1.2", "ratio.rule=ucb", "ratio.arms=[1,0]", "ratio.arms=[0]",
    "ratio.arms=[0,2]", "ratio.arms=0.5", "ratio.initial=0", "ratio.rho=-1", "ratio.delta=-2", "method.period=0",
    "method.scaler=1",
]  # fmt: skip


@pytest.mark.parametrize("override", BAD)
def test_a_bad_value_is_one_line_that_names_key_value_and_what_is_allowed(override: str) -> None:
    key = override.partition("=")[0]
    text = message(override)
    assert text.startswith(f"{key}: got ")
    assert any(words in text for words in (", expected ", "did you mean", "there is"))


def test_every_key_has_a_bad_value() -> None:
    other_splits = {row.key for row in explain() if row.key.startswith("split.")} - set(values_of(configured()))
    tested = {override.partition("=")[0] for override in BAD} | other_splits | {"method.name"}
    assert {row.key for row in explain(Parameters)} == tested


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("roudns=3", "did you mean rounds?"),
        ("rato.rule=3", "did you mean ratio.rule?"),
        ("arms=[0, 1]", "did you mean ratio.arms?"),
        ("lamda=1", "did you mean objective.lambda?"),
        ("objective.lambda_=1", "did you mean objective.lambda?"),
        ("ratio.rule=rrc", "did you mean rcr?"),
        ("precision=fp23", "did you mean fp32?"),
        ("split.kind=dirichelt", "did you mean dirichlet?"),
        ("model.name=mpl", "did you mean mlp?"),
        ("model.name=resnet", "there is digits_cnn, mnist_cnn, mlp"),
        ("method.perod=1", "did you mean method.period?"),
        ("method.quux=1", "there is method.scaler, method.period"),
        ("xyzzy=1", "fedlps run --explain lists all"),
        ("ratio=1", "is a group of keys: ratio.rule, "),
        ("lr.x=1", "unknown key"),
        ("model.a.b=1", "unknown key"),
        ("lr", "expected key=value"),
        ("=1", "expected key=value"),
        ("lr=[1", "not readable as YAML"),
        ("lr=" + "[" * 1000, "not readable as YAML"),
        ("a\nb=1", "unknown key"),
        ("lr=a\nb", "expected a number"),
        ("method.name=fedavg", "chosen by --method"),
    ],
)
def test_a_typo_is_met_with_what_was_meant(override: str, expected: str) -> None:
    assert expected in message(override)


def test_unknown_presets_and_methods() -> None:
    assert message(preset="minst") == 'preset: got "minst", did you mean mnist?'
    known = "cifar10, cifar100, digits, flash_iid, flash_noniid, mnist, mnist_mlp, scale, tinyimagenet"
    assert message(preset="xyzzy") == f'preset: got "xyzzy", there is {known}'
    assert message(method="fedlsp") == 'method: got "fedlsp", did you mean fedlps?'


def test_a_method_without_parameters_has_none() -> None:
    with pytest.raises(InputError, match=r"method\.x: unknown key, there is none"):
        resolve("digits", ["method.x=1"], "bare", {"bare": Group}, MODELS)


def test_another_kind_of_split_takes_the_presets_arguments_away() -> None:
    split = configured("split.kind=dirichlet", "split.alpha=0.3").split
    assert split.model_dump() == {"kind": "dirichlet", "alpha": 0.3, "min_samples": 10, "test_per_class": 30}
    assert configured("split.kind=iid").split.model_dump() == {"kind": "iid", "samples": None, "test_per_class": 30}
    assert configured("split.kind=pathological") == configured()
    assert message("split.kind=dirichlet") == "split.alpha: is missing, expected a number > 0"
    text = message("split.alpha=1")
    assert text.startswith("split.alpha: does not belong to split.kind=pathological, which has ")
    assert message("split.kind=iid", "split.shard_size=3").startswith(
        "split.shard_size: does not belong to split.kind=iid"
    )
    assert message("split.kind=lacking", "split.lacking=-1", "split.samples=3").startswith("split.lacking: got -1")
    assert message("split.kind=lacking", "split.lacking=1", "split.samples=0").endswith("a whole number >= 1")


def test_frozen() -> None:
    config = configured("model.hidden=[1]")
    with pytest.raises(ValidationError):
        config.lr = 1.0
    with pytest.raises(ValidationError):
        config.ratio.rule = 1.0
    with pytest.raises(ValidationError):
        config.method.name = "fedavg"
    config.model.parameters.clear()
    assert config.model.parameters == {"hidden": (1,)}
    assert config.method.parameters == {"scaler": True, "period": 3}
    assert configured() == configured(method="fedlps") != configured(method="fedavg")


def test_resume_takes_only_what_changes_no_result() -> None:
    stored = configured("method.period=5", "checkpoint_every=3")
    anew = {"threads": 2, "executor": "cpu", "device": "cpu", "memory": 10, "checkpoint_seconds": 5.0}
    anew["checkpoint_every"] = None
    assert set(anew) == set(RESUMABLE)
    assert values_of(merge_for_resume(stored, anew)) == values_of(stored) | anew
    same = ["lr=1e-1", "rounds=100", "ratio.arms=[0,1]", "method.period=5", "data.root=null", "split.shard_size=22"]
    assert merge_for_resume(stored, same) == stored
    for override, had in [
        ("rounds=200", "has 100"),
        ("lr=0.2", "has 0.1"),
        ("split.kind=iid", 'has "pathological"'),
        ("split.alpha=1", "has none"),
        ("method.period=3", "has 5"),
        ("method.name=fedavg", 'has "fedlps"'),
        ("ratio.arms=[0.5,1]", r"has [0.0, 1.0]"),
    ]:
        with pytest.raises(InputError) as caught:
            merge_for_resume(stored, [override])
        key, _, value = override.partition("=")
        assert str(caught.value).startswith(f"{key}: got ")
        assert had in str(caught.value)
        assert value.strip("[]").split(",")[0] in str(caught.value)
    with pytest.raises(InputError, match="threads: got 0"):
        merge_for_resume(stored, ["threads=0"])
    with pytest.raises(InputError, match="did you mean threads"):
        merge_for_resume(stored, ["thread=1"])


def test_no_torch_is_imported() -> None:
    modules = ["directory", "resolve", "store"]  # which import all the others
    code = f"import sys, {', '.join(f'fedlps.run.{name}' for name in modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
