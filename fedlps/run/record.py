"""run.yaml: the resolved configuration of a run, the versions it ran under, the command that started it."""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import yaml

from fedlps.errors import InputError
from fedlps.run.config import RESUMABLE, Config
from fedlps.run.resolve import flatten, validate, values_of
from fedlps.run.values import load, show

HEADER = "# A run of fedlps. To go on with it: fedlps run --resume --out DIR"
FORMAT = 1


class Record(NamedTuple):
    """What run.yaml holds. versions: name -> version of everything that decides the bits."""

    config: Config
    versions: dict[str, str]
    command: str


def to_yaml(config: Config, versions: Mapping[str, str], command: str) -> str:
    """The text of run.yaml; `from_yaml` gives the same values back."""
    configuration = config.model_dump(mode="json", by_alias=True)
    record = {"format": FORMAT, "command": command, "versions": dict(versions), "configuration": configuration}
    return f"{HEADER}\n{yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=120)}"


def from_yaml(text: str) -> Record:
    """The record in a run.yaml. InputError, one line, if it is damaged, of another format, or has other keys."""
    record = load(text)
    if not isinstance(record, dict) or set(record) != {"format", "command", "versions", "configuration"}:
        raise InputError("expected the keys format, command, versions, configuration")
    if record["format"] != FORMAT:
        raise InputError(f"format: got {show(record['format'])}, this version of fedlps reads {FORMAT}")
    versions, command = record["versions"], record["command"]
    if not (isinstance(versions, dict) and all(isinstance(entry, str) for item in versions.items() for entry in item)):
        raise InputError("versions: expected a text per name")
    if not isinstance(command, str):
        raise InputError(f"command: got {show(command)}, expected text")
    return Record(validate(flatten(record["configuration"])), versions, command)


def fingerprint(config: Config) -> str:
    """BLAKE2b (hex) of everything that a resumed run must share with the run it goes on with."""
    values = {key: value for key, value in values_of(config).items() if key not in RESUMABLE}
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
