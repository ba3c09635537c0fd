"""What a client does in a round (`plan`), on which samples (`cohort`), and who computes it (the executors)."""
