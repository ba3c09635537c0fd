"""Which samples each client trains, validates and tests on."""

from collections.abc import Mapping
from typing import Any

import numpy

from fedlps.data.split import Split
from tests.golden.compare import exact
from tests.golden.options import Options


def run(case: Mapping[str, Any], arrays: Mapping[str, numpy.ndarray], options: Options) -> list[str]:
    """Every client's indices, in order."""
    arguments = dict(case["arguments"])
    share = arguments.pop("share", case.get("share", False))
    train, test = arrays["train_labels"], arrays["test_labels"]
    split = Split(
        train,
        test,
        classes=int(max(train.max(), test.max())) + 1,
        kind=case["split"],
        arguments=arguments,
        clients=case["clients"],
        test_per_class=case["test_per_class"],
        seed=case["seed"],
        share=share,
    )
    clients = [split.client(client) for client in range(case["clients"])]
    mismatches = []
    for part in ("train", "validate", "test"):
        mismatches += exact(part, [getattr(client, part) for client in clients], case["want"][part])
    return mismatches
