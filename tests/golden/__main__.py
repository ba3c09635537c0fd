"""`python -m tests.golden DIR [--executor reference|cpu|cuda] [--dtype float64|float32]`.

Prints a line per case and a count. Exit code 1 if a case failed, 2 if none could be run.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.golden.options import EXECUTORS, TOLERANCES, Options, missing
from tests.golden.runner import case_files, run_folder


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def main(command_line: Sequence[str] | None = None) -> int:
    """Run the cases that the command line (default: the process's own) names. Returns the exit code."""
    parser = OneLineParser(prog="python -m tests.golden", description="Run golden cases.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="holds NAME.json and NAME.npz files")
    parser.add_argument("--executor", choices=EXECUTORS, default="reference")
    parser.add_argument("--dtype", choices=TOLERANCES, default="float64")
    arguments = parser.parse_args(command_line)
    if not arguments.folder.is_dir():
        parser.error(f"DIR: got {arguments.folder}, which is no directory")
    if not case_files(arguments.folder):
        parser.error(f"DIR: got {arguments.folder}, which holds no case (NAME.json)")
    if reason := missing(arguments.executor):
        parser.error(reason)
    count: Counter[str] = Counter()
    for outcome in run_folder(arguments.folder, Options(arguments.executor, arguments.dtype)):
        print(outcome, flush=True)
        count[outcome.status] += 1
    print(f"{count['ok']} passed, {count['FAILED']} failed, {count['skipped']} skipped")
    return 1 if count["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
