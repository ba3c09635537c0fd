"""Kernels of what lies behind a layer: batch-statistics norm, ReLU and pooling. Triton code, launched by `triton.py`.

A tile is BLOCK_ROWS positions x BLOCK_COLUMNS channels of one client, or, of a sum over positions, one channel block
and CHUNK positions, BLOCK_ROWS at a time. Pools do not overlap and have no padding.
"""
