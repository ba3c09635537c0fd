import os
import subprocess
import sys

import pytest

from fedlps.commands import completed


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cifar", ["cifar10", "cifar100"]),
        ("ratio.ru", ["ratio.rule="]),
        ("ratio.rule=", ["ratio.rule=p-ucbv", "ratio.rule=rcr"]),
        ("ratio.rule=r", ["ratio.rule=rcr"]),
        ("seed=", []),
        ("xyzzy=", []),
    ],
)
def test_words_of_a_run(word: str, expected: list[str]) -> None:
    assert completed(word) == expected


@pytest.mark.parametrize(
    ("words", "expected"), [("fedlps pl", ["plot"]), ("fedlps run mnist_", ["mnist_mlp"]), ("fedlps data p", ["pack"])]
)
def test_bash_is_told(words: str, expected: list[str]) -> None:
    asked = {"_FEDLPS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "fedlps"], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected
