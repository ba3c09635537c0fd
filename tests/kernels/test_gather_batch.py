"""The definition of gathering, by hand."""

import torch

from fedlps_kernels.gather_batch.definition import gather_batch


def test_by_hand() -> None:
    images = torch.tensor([[[[0, 1]], [[2, 2]]], [[[3, 0]], [[1, 255]]]], dtype=torch.uint8)
    table = torch.stack([torch.arange(256.0), 1000 + torch.arange(256.0)])
    batch = gather_batch(images, table, torch.tensor([[1, 0], [0, 9]]), torch.tensor([2, 1]))
    assert batch[0].tolist() == [[[[3, 0]], [[1001, 1255]]], [[[0, 1]], [[1002, 1002]]]]
    assert batch[1].tolist() == [[[[0, 1]], [[1002, 1002]]], [[[0, 0]], [[0, 0]]]]
