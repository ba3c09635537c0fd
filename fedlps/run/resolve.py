"""From a preset and overrides to a configuration; what a resumed run may be given anew."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ValidationError

from fedlps.errors import InputError
from fedlps.run.config import RESUMABLE, SPLITS, Config
from fedlps.run.keys import ROWS, check_key, one_line, rows_of, split_rows
from fedlps.run.values import Value, load, plain, show, unknown

Overrides = Mapping[str, object] | Sequence[str]
"""Either key -> value, or texts "key=value" whose values are YAML."""


@cache
def presets() -> dict[str, str]:
    """The presets that there are, each with a line that says what it is (the first comment of its file)."""
    folder = files("fedlps.run").joinpath("presets")
    texts = sorted((entry.name, entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {name.removesuffix(".yaml"): text.splitlines()[0].removeprefix("# ") for name, text in texts}


def read_preset(name: str) -> dict[str, Value]:
    """A preset's values by dotted key. InputError if there is no such preset."""
    if name not in presets():
        raise unknown("preset", name, presets())
    return flatten(load(files("fedlps.run").joinpath("presets", f"{name}.yaml").read_text()))


def flatten(values: object, prefix: str = "") -> dict[str, Value]:
    """Nested mappings as one mapping of dotted keys. InputError if a key is given twice, or is no text."""
    if not isinstance(values, Mapping):
        raise InputError(f"configuration: got {show(values)}, expected key: value")
    flat: dict[str, Value] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise InputError(f"{prefix}{show(name)}: got a key that is no text")
        key = prefix + name
        _merge(flat, flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: plain(key, value)})
    return flat


def _merge(flat: dict[str, Value], added: Mapping[str, Value]) -> None:
    for key, value in added.items():
        if key in flat:
            raise InputError(f"{key}: is given twice, as {show(flat[key])} and {show(value)}")
        flat[key] = value


def nest(flat: Mapping[str, Value]) -> dict[str, Any]:
    """The reverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        group, dot, rest = key.partition(".")
        if dot:
            nested.setdefault(group, {})[rest] = value
        else:
            nested[group] = value
    return nested


def parse_overrides(overrides: Overrides) -> dict[str, Value]:
    """Overrides by dotted key, every key known. InputError: no "=", an unknown key, a key given twice."""
    if isinstance(overrides, str):
        raise InputError(f"overrides: got {show(overrides)}, expected a list of key=value, or a mapping")
    pairs: list[tuple[str, object]] = []
    if isinstance(overrides, Mapping):
        pairs = list(overrides.items())
    else:
        for text in overrides:
            key, equals, written = text.partition("=")
            if not (key and equals):
                raise InputError(f"{show(text)}: expected key=value, as in ratio.rule=0.5")
            check_key(key)
            pairs.append((key, _value(key, written)))
    flat: dict[str, Value] = {}
    for key, value in pairs:
        _merge(flat, flatten({key: value}))
    for key in flat:
        check_key(key)
    return flat


def _value(key: str, text: str) -> object:
    try:
        return load(text)
    except InputError as error:
        raise InputError(f"{key}: got {show(text)}, {error}") from None


def validate(flat: Mapping[str, Value]) -> Config:
    """The configuration that these values make. InputError, one line, for the first that is not allowed."""
    kind = flat.get("split.kind")
    if not (isinstance(kind, str) and kind in SPLITS):
        raise unknown("split.kind", kind, SPLITS)
    try:
        return Config.model_validate(nest(flat))
    except ValidationError as error:
        raise one_line(error, flat, ROWS | {row.key: row for row in split_rows(kind)}) from None


def resolve(
    preset: str,
    overrides: Overrides,
    method: str,
    methods: Mapping[str, type[BaseModel]],
    models: Collection[str],
) -> Config:
    """The configuration of a run: the preset's values, then the overrides, then the method's parameters.

    methods: the model of each method's own parameters (`method.*`). models: names allowed for `model.name`, whose own
    parameters (`model.*`) the model's builder checks. An override of `split.kind` or `model.name` takes the arguments
    of the preset's own kind or model away.
    InputError, one line with what was meant or what is allowed: unknown preset, key, method or model; a bad value.
    """
    values = read_preset(preset)
    given = parse_overrides(overrides)
    if method not in methods:
        raise unknown("method", method, methods)
    if given.pop("method.name", method) != method:
        raise InputError(f"method.name: the method is chosen by --method, which is {method}")
    for key, kept in (("split.kind", ("split.test_per_class",)), ("model.name", ())):
        if given.get(key, values[key]) != values[key]:
            group = key.partition(".")[0] + "."
            values = {k: v for k, v in values.items() if not k.startswith(group) or k in kept}
    values |= given
    if isinstance(name := values.get("model.name"), str) and name not in models:
        raise unknown("model.name", name, models)
    values = {k: v for k, v in values.items() if not k.startswith("method.")}
    values |= {"method.name": method, **_method_parameters(methods[method], given)}
    return validate(values)


def _method_parameters(parameters: type[BaseModel], given: Mapping[str, Value]) -> dict[str, Value]:
    own = {key: value for key, value in given.items() if key.startswith("method.")}
    try:
        checked = parameters.model_validate(nest(own).get("method", {}))
    except ValidationError as error:
        rows = {row.key: row for row in rows_of(parameters, "method.", "required")}
        raise one_line(error, own, rows, "method.") from None
    return flatten(checked.model_dump(mode="json", by_alias=True), "method.")


def values_of(config: Config) -> dict[str, Value]:
    """A configuration's values by dotted key, in order."""
    return flatten(config.model_dump(mode="json", by_alias=True))


def merge_for_resume(stored: Config, overrides: Overrides) -> Config:
    """The stored configuration with what a resumed run may be given anew (`RESUMABLE`).

    Any other key may be given with the value it already has. InputError, naming both values, if it differs.
    """
    values = values_of(stored)
    given = parse_overrides(overrides)
    for key, value in given.items():
        if key in RESUMABLE:
            values[key] = value
        elif key not in values or value != values[key]:
            had = f"has {show(values[key])}" if key in values else "has none"
            raise InputError(
                f"{key}: got {show(value)}, but the run to resume {had}; only {', '.join(RESUMABLE)} may be given anew"
            )
    return validate(values)
