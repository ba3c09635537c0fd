"""Values of keys: reading them as YAML, saying what is allowed, showing what was given."""

import json
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import annotated_types
import numpy
import yaml

from fedlps.errors import InputError

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | None"


@dataclass(frozen=True)
class Allowed:
    """Annotates a type with words for what it allows, where its bounds do not say it."""

    text: str


class Loader(yaml.SafeLoader):
    """YAML's safe loader, except that 1e-3 is a number (YAML 1.1 wants 1.0e-3) and that a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) < len(keys):
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(problem=f"{repeated} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def load(text: str) -> object:
    """The value of a YAML text. InputError, in one line, if it is none."""
    try:
        return Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2020-99-99
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or show(str(error))
        raise InputError(f"not readable as YAML{where}: {problem}") from None


def whole(value: object) -> object:
    """1e3 is a whole number, though YAML reads it as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(key: str, value: object) -> Value:
    """`value` as YAML can hold it: lists become tuples, numpy's numbers become Python's."""
    if isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, numpy.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(plain(key, entry) for entry in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"{key}: got {show(value)}, expected a number, text, true, false, null or a list of them")


def show(value: object) -> str:
    """A value as a user would write it: one line, of bounded length."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 100 else text[:97] + "..."


def closest(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` is a misspelling of, if one is near."""
    return next(iter(get_close_matches(word, list(options), n=1)), None)


def unknown(what: str, name: object, options: Iterable[str]) -> InputError:
    """The error for a name that is not among the options."""
    meant = closest(str(name), options)
    hint = f"did you mean {meant}?" if meant else f"there is {', '.join(options)}"
    return InputError(f"{what}: got {show(name)}, {hint}")


Choice = TypeVar("Choice", bound=StrEnum)


def one_of(what: str, word: str, choices: type[Choice]) -> Choice:
    """The choice of this name. InputError, with what was meant, if there is none."""
    if word not in [choice.value for choice in choices]:
        raise unknown(what, word, choices)
    return choices(word)


def literals(annotation: object) -> tuple[str, ...]:
    """The words among what a type allows."""
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    return tuple(word for part in get_args(annotation) for word in literals(part))


NOUNS = {
    bool: "true or false",
    str: "text",
    NoneType: "null",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
}


def allowed(annotation: Any, metadata: Iterable[object] = ()) -> str:
    """In words, the values that a type with pydantic's constraints allows."""
    metadata = list(metadata)
    if words := next((entry.text for entry in metadata if isinstance(entry, Allowed)), None):
        return words
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(arguments[0], [*arguments[1:], *metadata])
    if origin is Literal:
        return " or ".join(", ".join(map(str, arguments)).rsplit(", ", 1))
    if origin in (Union, UnionType):
        return " or ".join(map(allowed, arguments))
    return NOUNS.get(origin or annotation, "a value") + _bounds(metadata)


def _bounds(metadata: Iterable[object]) -> str:
    """' in (0, 1]', ' >= 1', or nothing."""
    low = high = None
    for entry in metadata:
        match entry:
            case annotated_types.Ge(bound):
                low = ("[", f" >= {bound:g}", f"{bound:g}")
            case annotated_types.Gt(bound):
                low = ("(", f" > {bound:g}", f"{bound:g}")
            case annotated_types.Le(bound):
                high = ("]", f" <= {bound:g}", f"{bound:g}")
            case annotated_types.Lt(bound):
                high = (")", f" < {bound:g}", f"{bound:g}")
    if low and high:
        return f" in {low[0]}{low[2]}, {high[2]}{high[0]}"
    return (low or high or ("", "", ""))[1]
