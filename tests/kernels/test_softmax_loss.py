"""The loss's definition is torch's loss and its gradient."""

import torch

from fedlps_kernels.softmax_loss.definition import softmax_loss


def test_is_torchs_loss_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(4, (3, 5), generator=generator)
    samples = torch.tensor([5, 0, 2], dtype=torch.int32)
    losses, hits, gradient = softmax_loss(logits.detach(), labels, samples)
    wanted = [torch.nn.functional.cross_entropy(logits[k, :n], labels[k, :n]) for k, n in ((0, 5), (2, 2))]
    torch.testing.assert_close(losses[[0, 2]], torch.stack(wanted).detach())
    assert losses[1] == hits[1] == 0
    torch.testing.assert_close(gradient, torch.autograd.grad(sum(wanted), logits)[0])


def test_of_equal_logits_the_lower_class_is_chosen() -> None:
    labels = torch.tensor([[0, 1, 0]])
    _, hits, _ = softmax_loss(torch.zeros(1, 3, 2), labels, torch.tensor([3]))
    assert hits.tolist() == [2]
