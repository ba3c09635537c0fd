"""Launches for linear layers: the convolution's, on maps of one position. Behind a flatten, take `Arena.flattened`.

Arguments as in `grouped_conv2d.triton`, whose `tiles_of` (positions 1, kernel 1) and `partial_size` serve here too.
"""

from functools import partial

from fedlps_kernels.grouped_conv2d import triton

forward = partial(triton.forward, kernel=1, stride=1, padding=0)
input_gradient = partial(triton.input_gradient, kernel=1, stride=1, padding=0)
weight_gradient = partial(triton.weight_gradient, kernel=1, stride=1, padding=0)
