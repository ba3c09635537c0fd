"""The keys of a configuration, one row each: for `--explain`, and for errors that say what is allowed."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from fedlps.errors import InputError
from fedlps.run.config import SPLITS, Config, Named, Split
from fedlps.run.values import Value, allowed, closest, literals, plain, show


class Row(NamedTuple):
    """One key, in words: what it may be, what it is when not given, what it means. `words`: the words it may be."""

    key: str
    allowed: str
    default: str
    description: str
    words: tuple[str, ...]


def rows_of(model: type[BaseModel], prefix: str = "", required: str = "preset") -> list[Row]:
    """A row per field of a pydantic model, groups as group.field. required: shown for a field without default."""
    rows = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        if key == "split":
            rows += _split_rows()
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += rows_of(field.annotation, f"{key}.", required)
        else:
            value = field.get_default(call_default_factory=True)
            default = required if value is PydanticUndefined else show(plain(key, value)).strip('"')
            words = literals(field.annotation)
            rows.append(Row(key, allowed(field.annotation, field.metadata), default, field.description or "", words))
    return rows


def split_rows(kind: str) -> list[Row]:
    """A row per argument of one kind of split."""
    return [row for row in rows_of(SPLITS[kind], "split.") if row.key != "split.kind"]


def _split_rows() -> list[Row]:
    """`split.kind`, what all kinds have, then each kind's own; a key that two kinds have stands there twice."""
    kind, *common = rows_of(Split, "split.")
    rows = [kind._replace(allowed=" or ".join(", ".join(SPLITS).rsplit(", ", 1)), words=tuple(SPLITS)), *common]
    for name in SPLITS:
        own = [row for row in split_rows(name) if row not in common]
        rows += [row._replace(description=f"{name}: {row.description}") for row in own]
    return rows


ROWS = {row.key: row for row in rows_of(Config)}
GROUPS = {key.partition(".")[0] for key in ROWS if "." in key}
FREE = {name for name in GROUPS if Config.model_fields[name].annotation in Named.__subclasses__()}


def explain(method: type[BaseModel] | None = None) -> list[Row]:
    """Every key, in order; with `method` (its parameters' model) also method.*."""
    rows = rows_of(Config)
    place = [row.key for row in rows].index("method.name") + 1
    return rows[:place] + (rows_of(method, "method.", "required") if method else []) + rows[place:]


def check_key(key: str) -> None:
    """InputError unless `key` is a configuration's, or may be a parameter of its model or method."""
    group, _, rest = key.partition(".")
    if key in ROWS or (group in FREE and rest and "." not in rest):
        return
    if key in GROUPS:
        members = [row for row in ROWS if row.startswith(f"{key}.")]
        raise InputError(f"{key}: is a group of keys: {', '.join(members)}{f', {key}.*' if key in FREE else ''}")
    last = {row.rpartition(".")[2]: row for row in reversed(ROWS)}
    meant = closest(key, ROWS) or last.get(closest(key.rpartition(".")[2], last) or "")
    hint = f"did you mean {meant}?" if meant else "fedlps run --explain lists all"
    raise InputError(f"{show(key)}: unknown key, {hint}")


def one_line(
    error: ValidationError, given: Mapping[str, Value], rows: Mapping[str, Row], prefix: str = ""
) -> InputError:
    """pydantic's complaint, the first if there are several, as one line.

    given: the values that were validated, by key. rows: what each key allows. prefix: of the keys, as in `method.`.
    """
    # a misspelt key is also a missing one: the misspelling says more
    first = min(error.errors(include_url=False), key=lambda entry: entry["type"] == "missing")
    place = [str(part) for part in first["loc"]]
    if place[0] == "split" and place[1:2] and place[1] in SPLITS:
        del place[1]  # the kind, which pydantic names between group and key
    keys = [prefix + ".".join(place[:length]) for length in range(len(place), 0, -1)]
    key = next((key for key in keys if key in rows or key in given), "")
    if not key:
        return InputError(f"{prefix}{'.'.join(place)}: {first['msg']}")
    if first["type"] == "missing" and key not in given:
        return InputError(f"{key}: is missing, expected {rows[key].allowed}")
    if first["type"] == "extra_forbidden" and key.startswith("split."):
        kind = str(given["split.kind"])
        own = ", ".join(row.key for row in split_rows(kind))
        return InputError(f"{key}: does not belong to split.kind={kind}, which has {own}")
    if first["type"] == "extra_forbidden":
        meant = closest(key, rows)
        there = f"there is {', '.join(rows)}" if rows else "there is none"
        return InputError(f"{key}: unknown key, " + (f"did you mean {meant}?" if meant else there))
    value = given.get(key)
    meant = closest(value, rows[key].words) if isinstance(value, str) else None
    hint = f"; did you mean {meant}?" if meant else ""
    return InputError(f"{key}: got {show(value)}, expected {rows[key].allowed}{hint}")
