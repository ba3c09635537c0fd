"""FedDyn: the pull of a client, its variate and the server's, by hand."""

from dataclasses import replace

import pytest
import torch

from fedlps.recipe import aggregation, dynamic, objective, upload
from tests.methods.quadratic import moved, quadratic
from tests.recipe.federations import federation, outcome_of, round_of, submodels

ALPHA = 0.5


def test_two_steps_by_hand(monkeypatch) -> None:
    """From 1 towards 4 with h = 0.2: gradients -3 - 0.2, then -2.68 - 0.2 + 0.5 * 0.32."""
    fed, method = quadratic(monkeypatch, "fedavg", 4)
    method = replace(method, objective=dynamic.dynamic(objective.cross_entropy(), ALPHA))
    assert moved(fed, method, 1, lr=0.1) == pytest.approx([1.3], rel=1e-14), "nothing is known before"
    fed.store.put_client(0, dynamic.VARIATE, {"h": torch.tensor([0, 0.2], dtype=torch.float64).numpy()})
    assert moved(fed, method, 1, lr=0.1) == pytest.approx([1.32], rel=1e-14)
    assert moved(fed, method, 1, lr=0.1, steps=2) == pytest.approx([1.592], rel=1e-14)


def test_variates_of_clients_and_server_by_hand() -> None:
    """Two of four clients train ones to 3 and 5; the second holds only unit 0. Then to what each started from."""
    fed = federation(method="fedavg")
    aggregate = dynamic.led(aggregation.residuals("uniform_holders"), ALPHA)

    def play(received: torch.Tensor, values: tuple[float, float]) -> torch.Tensor:
        round_ = round_of(fed, 0, clients=(0, 1), parameters=received)
        models = [torch.full((35,), value, dtype=torch.float64) for value in values]
        outcome = outcome_of(fed, round_, models=submodels(fed, [((0, 2), models[0]), ((0,), models[1])]))
        return aggregate(fed, outcome, upload.held_entries()(fed, outcome))

    first = play(torch.ones(35, dtype=torch.float64), (3, 5))
    rows = first[16:20]  # the hidden units' biases
    assert rows.tolist() == [4 + 0.75 / ALPHA, 1, 3 + 0.25 / ALPHA, 1], "a mean, led on by h; nobody holds 1 and 3"
    assert fed.store.get_tensor(dynamic.VARIATE)[16:20].tolist() == [-0.75, 0, -0.25, 0]
    assert fed.store.get_client(0, dynamic.VARIATE)["h"][16:20].tolist() == [-1, 0, -1, 0]
    assert fed.store.get_client(1, dynamic.VARIATE)["h"][16:20].tolist() == [-2, 0, 0, 0]
    second = play(first, (first[16].item(), first[16].item()))
    assert second[16] == first[16] + 0.75 / ALPHA, "nobody moved: h leads on as it is"
    assert fed.store.get_client(1, dynamic.VARIATE)["h"][16] == -2


def test_without_any_upload_nothing_changes() -> None:
    fed = federation(method="fedavg")
    fed.store.put_tensor(dynamic.VARIATE, torch.ones(35, dtype=torch.float64).numpy())
    round_ = round_of(fed)
    outcome = outcome_of(fed, round_, dropped=range(4))
    aggregate = dynamic.led(aggregation.residuals("uniform_holders"), ALPHA)
    assert torch.equal(aggregate(fed, outcome, upload.held_entries()(fed, outcome)), round_.global_parameters)
