"""What there is to choose from: methods, presets, keys. Each as a heading and lines about it."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from fedlps.run.keys import Row, explain, rows_of
from fedlps.run.resolve import Overrides, presets, read_preset, resolve, values_of
from fedlps.run.values import show, unknown

Entry = tuple[str, list[str]]

MAIN = ("rounds", "clients", "fraction", "epochs", "batch", "lr")


def methods() -> Iterator[Entry]:
    """Every method: what it is, where it is from, its own parameters with their defaults."""
    from fedlps.methods import METHODS

    for name, recipe in METHODS.items():
        yield name, [*_paragraphs(recipe.paper)[:2], *_defaults(recipe.parameters)]


def method(name: str) -> list[Entry]:
    """All about one method. InputError if there is no such method."""
    from fedlps.methods import METHODS

    if name not in METHODS:
        raise unknown("method", name, METHODS)
    recipe = METHODS[name]
    rows = rows_of(recipe.parameters, "method.", "required")
    parameters = [_key(row, row.default) for row in rows]
    about = [line for paragraph in _paragraphs(recipe.paper) for line in (paragraph, "")]
    return [(name, [*about, *([] if rows else _paragraphs(recipe.parameters.__doc__ or ""))]), *parameters]


def listed_presets() -> Iterator[Entry]:
    """Every preset: what it is and its main values."""
    for name, description in presets().items():
        values = read_preset(name)
        main = [f"{key}={show(values[key])}" for key in MAIN]
        groups = [_group(values, group) for group in ("data", "split", "model")]
        others = [key for key in values if "." in key and key.partition(".")[0] not in ("data", "split", "model")]
        yield name, [description, " ".join(main), *groups, *(f"{key}={show(values[key])}" for key in others)]


def keys(preset: str, method: str, overrides: Overrides) -> Iterator[Entry]:
    """Every key: its value in the run that these arguments make, what it means, what is allowed."""
    from fedlps import models
    from fedlps.methods import METHODS

    parameters = {name: recipe.parameters for name, recipe in METHODS.items()}
    config = resolve(preset, overrides, method, parameters, models.ZOO)
    values = values_of(config)
    for row in explain(METHODS[method].parameters):
        kind, colon, _ = row.description.partition(": ")
        foreign = row.key.startswith("split.") and colon and kind != config.split.kind
        default = "required" if row.default == "preset" else row.default
        yield _key(row, default if foreign or row.key not in values else show(values[row.key]).strip('"'))


def _key(row: Row, value: str) -> Entry:
    return f"{row.key}={value}", [row.description, f"allowed: {row.allowed}"]


def _paragraphs(docstring: str) -> list[str]:
    """Each paragraph on one line."""
    return [" ".join(paragraph.split()) for paragraph in docstring.strip().split("\n\n")]


def _defaults(parameters: type[BaseModel]) -> list[str]:
    """A line of a method's parameters, without the `method.` that they all begin with; none if it has none."""
    rows = rows_of(parameters, "", "required")
    return [" ".join(("method.*:", *(f"{row.key}={row.default}" for row in rows)))] if rows else []


def _group(values: Mapping[str, object], group: str) -> str:
    return " ".join(f"{key}={show(value)}" for key, value in values.items() if key.startswith(f"{group}."))
