"""Cases with known answers: `python -m tests.golden DIR` checks this build against them."""
