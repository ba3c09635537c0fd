"""Batches of unequal clients' samples, gathered from bytes and normalized."""
