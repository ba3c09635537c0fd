"""Looking at a run.db, and spoiling it, behind the store's back."""

import sqlite3
from pathlib import Path


def connect(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / "run.db", isolation_level=None)
