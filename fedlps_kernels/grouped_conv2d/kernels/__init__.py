"""Matrix products of unequal clients as implicit convolutions. Triton code, launched by `triton.py` beside this folder.

Every program walks the tile list. Activations lie channels innermost (`Arena`), weights as `Places` says; both pad
their innermost dimension with zeros to 16 elements, and masks compare with the padded bound: only so are copies wide.
A linear layer is a convolution on one position (POINTWISE).
"""
