"""Softmax cross entropy of unequal clients' batches, with its gradient."""
