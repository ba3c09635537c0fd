"""Exit codes."""

OK, FAILED, WRONG_INPUT = 0, 1, 2
