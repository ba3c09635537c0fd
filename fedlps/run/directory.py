"""Where a run's files go: choosing the directory, and replacing a run that is there."""

import sqlite3
from pathlib import Path

from fedlps.errors import InputError
from fedlps.run.files import ASIDE, cannot_write
from fedlps.run.format import APPLICATION_ID
from fedlps.run.lock import Lock
from fedlps.run.record import HEADER
from fedlps.run.store import read_record

WRITTEN = ("model.safetensors", "metrics.csv", "run.yaml")
OWN_FILES = ("run.db-journal", "run.db", *(name + ASIDE for name in WRITTEN), *WRITTEN)
"""A run's own files beside its lock, in the order in which they are removed: no journal may outlive its run.db, or
SQLite would roll the next one back with it, and run.yaml, by which a run is recognised, goes last."""
EVENTS = "tensorboard"  # the folder of what `--tensorboard` writes


def check_directory(out: Path | None, *, resume: bool, overwrite: bool) -> None:
    """InputError, one line, if a run cannot be written there as asked. Creates nothing."""
    if resume and overwrite:
        raise InputError("--resume and --overwrite: expected one of them")
    if out is None:
        if resume or overwrite:
            raise InputError(f"{'--resume' if resume else '--overwrite'}: expected --out DIR with it")
        return
    if not out.exists():
        if resume:
            raise InputError(f"--out: {out} does not exist, so there is no run to resume")
    elif not out.is_dir():
        raise InputError(f"--out: {out} is no directory")
    elif not (resume or overwrite):
        raise InputError(f"--out: {out} exists; --resume goes on with its run, --overwrite replaces it")
    elif not is_run(out):
        raise InputError(f"--out: {out} is a directory that is no run; choose another DIR")


def check_same(out: Path, preset: str | None, method: str | None) -> None:
    """InputError if a run is to be resumed as something that it is not."""
    stored = read_record(out).config.method.name
    if preset is not None:
        raise InputError(f"PRESET: got {preset}, but --resume takes all values from {out / 'run.yaml'}; leave it out")
    if method not in (None, stored):
        raise InputError(f"--method: got {method}, but the run to resume has {stored}")


def make_directory(out: Path | None, name: str, *, overwrite: bool = False, base: Path = Path("runs")) -> Path:
    """Make the directory of a new run, or empty it of the run it holds, and return it.

    out: as given by the user; None: base/name, or with -2, -3, ... if taken. Making it is what takes it, so that runs
    started at the same time get different ones. InputError as from `check_directory`, or if another process writes
    there.
    """
    check_directory(out, resume=False, overwrite=overwrite)
    try:
        if out is None:
            return _take(base, name)
        out.mkdir(parents=True, exist_ok=overwrite)
    except OSError as error:
        raise cannot_write(base if out is None else out, error) from error
    if overwrite:
        _remove_run(out)
    return out


def remove_events(directory: Path) -> None:
    """Remove a run's event files, and their folder if nothing else is in it. InputError if the system refuses."""
    folder = directory / EVENTS
    try:
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise cannot_write(folder, error) from error


def is_run(directory: Path) -> bool:
    """Whether it holds a run: our run.yaml or run.db, or nothing but what a run killed at its start leaves."""
    try:
        if (directory / "run.yaml").read_bytes().startswith(HEADER.encode()):
            return True
    except OSError:
        pass
    names = {entry.name for entry in directory.iterdir()}
    return _has_our_database(directory) or ("lock" in names and names <= {"lock", *OWN_FILES})


def _has_our_database(directory: Path) -> bool:
    path = directory / "run.db"
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    try:
        return bool(connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,))
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _take(base: Path, name: str) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = base / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _remove_run(directory: Path) -> None:
    lock = Lock(directory / "lock")
    try:
        remove_events(directory)
        for name in OWN_FILES:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(directory, error) from error
    finally:
        lock.release()
