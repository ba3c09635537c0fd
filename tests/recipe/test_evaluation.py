"""The three protocols of section 6, against outputs computed by hand; and what is run again."""

import numpy
import pytest
import torch

from fedlps.recipe.evaluation import Evaluation, GlobalModel, PersonalModels
from tests.recipe.federations import federation, outcome_of, round_of, submodels


def constant(label: int) -> torch.Tensor:
    """A model that answers the same class whatever it sees."""
    parameters = torch.zeros(35, dtype=torch.float64)
    parameters[32 + label] = 1
    return parameters


def share(fed, client: int, label: int, part: str = "test") -> float:
    """The share of the client's samples that have the label."""
    indices = getattr(fed.split.client(client), part)
    return float((fed.executor.executor.samples.labels[indices] == label).mean())


def shares(fed, labels: list[int]) -> float:
    return 100 * float(numpy.mean([share(fed, client, label) for client, label in enumerate(labels)]))


def remember(fed, evaluation: Evaluation, labels: dict[int, int], **failed) -> None:
    """A round in which each of these clients trained a model that answers one class."""
    round_ = round_of(fed, clients=tuple(labels))
    models = submodels(fed, [((0, 2), constant(label)) for label in labels.values()])
    evaluation.remember(fed, outcome_of(fed, round_, models=models, **failed))


@pytest.fixture
def fed():
    return federation()


def test_the_global_model_alone(fed):
    got = GlobalModel().test(fed, 0, constant(1))
    assert got == {"test_global": pytest.approx(shares(fed, [1, 1, 1, 1]))}
    remember(fed, GlobalModel(), {0: 1})
    assert fed.store.clients == {}
    assert fed.store.tensors == {}


def test_every_distinct_image_is_computed_once(fed):
    PersonalModels().test(fed, 0, constant(1))
    own = [image for client in range(4) for image in fed.split.client(client).test.tolist()]
    assert len(set(own)) < len(own), "else the case shows nothing"
    assert fed.executor.asked == [(1, [sorted(set(own))], "test")]


def test_clients_without_a_personal_model_use_the_global_one(fed):
    evaluation = PersonalModels()
    got = evaluation.test(fed, 0, constant(2))
    assert got["test_last"] == got["test_best"] == got["test_global"] == pytest.approx(shares(fed, [2] * 4))
    remember(fed, evaluation, {1: 0})
    got = evaluation.test(fed, 0, constant(1))
    assert got["test_last"] == pytest.approx(shares(fed, [1, 0, 1, 1]))
    assert got["test_global"] == pytest.approx(shares(fed, [1] * 4))
    assert got["test_last"] != pytest.approx(got["test_global"])


def test_last_is_the_latest_and_best_has_the_highest_validation_accuracy(fed):
    """Validation is one sample per client, so a constant answer is right (1) or wrong (0)."""
    evaluation = PersonalModels()
    right = [int(fed.executor.executor.samples.labels[fed.split.client(c).validate[0]]) for c in range(4)]
    wrong = [(label + 1) % 3 for label in right]
    other = [(label + 2) % 3 for label in right]
    assert share(fed, 0, wrong[0]) != share(fed, 0, other[0]), "else the tie would not show"
    # client 0: wrong, then another wrong (a tie); client 1: wrong, then right; client 2: right, then wrong
    remember(fed, evaluation, {0: wrong[0], 1: wrong[1], 2: right[2]})
    got = evaluation.test(fed, 0, constant(0))
    assert got["test_last"] == pytest.approx(shares(fed, [wrong[0], wrong[1], right[2], 0]))
    remember(fed, evaluation, {2: wrong[2], 0: other[0], 1: right[1]})
    got = evaluation.test(fed, 0, constant(0))
    assert got["test_last"] == pytest.approx(shares(fed, [other[0], right[1], wrong[2], 0]))
    assert got["test_best"] == pytest.approx(shares(fed, [other[0], right[1], right[2], 0])), "ties go to the later"
    assert fed.store.get_tensor("validation_best").tolist() == [0, 1, 1, -1]


def test_validation_is_measured_on_the_clients_validation_samples(fed):
    remember(fed, PersonalModels(), {3: 0, 1: 0})
    assert fed.executor.asked == [(2, [fed.split.client(c).validate.tolist() for c in (3, 1)], "train")]


def test_those_that_diverged_or_were_dropped_keep_their_former_models(fed):
    evaluation = PersonalModels()
    remember(fed, evaluation, {0: 1, 1: 1, 2: 1})
    remember(fed, evaluation, {0: 2, 1: 2, 2: 2}, diverged=[0], dropped=[2])
    got = evaluation.test(fed, 0, constant(0))
    assert got["test_last"] == pytest.approx(shares(fed, [1, 2, 1, 0]))
    remember(fed, evaluation, {3: 1}, diverged=[0])
    assert (3, "last") not in fed.store.clients


def test_only_changed_models_are_run_again(fed):
    evaluation = PersonalModels()
    remember(fed, evaluation, {0: 1, 1: 1, 2: 1})
    evaluation.test(fed, 0, constant(0))
    remember(fed, evaluation, {1: 2})  # not evaluated in between: both rounds' changes count
    remember(fed, evaluation, {3: 2})
    fed.executor.asked.clear()
    got = evaluation.test(fed, 0, constant(0))
    tests = [asked for asked in fed.executor.asked if asked[0] > 0]
    own = {client: fed.split.client(client).test.tolist() for client in range(4)}
    assert tests[0][:1] == (1,)
    assert tests[1] == (2, [own[1], own[3]], "test")
    assert got["test_last"] == pytest.approx(shares(fed, [1, 2, 1, 2]))
    fed.executor.asked.clear()
    again = evaluation.test(fed, 0, constant(0))
    assert again == got
    assert [asked[2] for asked in fed.executor.asked] == ["test"], "the global model alone"


@pytest.mark.parametrize(
    ("room", "groups"), [(1, [1, 1, 1]), (2 * 19 * 8, [2, 1]), (3 * 19 * 8 - 1, [2, 1]), (3 * 19 * 8, [3])]
)
def test_no_more_models_are_in_memory_than_have_room(fed, monkeypatch, room: int, groups: list[int]):
    """A model of two of the four units has 19 parameters, of 8 bytes each."""
    monkeypatch.setattr("fedlps.recipe.evaluation.MODELS_BYTES", room)
    personal = PersonalModels()
    remember(fed, personal, {0: 1, 1: 2, 3: 0})
    fed.executor.asked.clear()
    assert personal.test(fed, 0, constant(0))["test_last"] == pytest.approx(shares(fed, [1, 2, 0, 0]))
    assert [asked[0] for asked in fed.executor.asked[1:]] == groups * 2


def test_a_personal_model_is_the_submodel_alone(fed):
    """Entries that a client does not hold are 0, not the global ones."""
    evaluation = PersonalModels()
    vector = torch.ones(35, dtype=torch.float64)
    vector[32:] = torch.tensor([0.0, 5.0, 9.0])
    vector[20:32] = torch.tensor([[0.0, 0, 0, 50], [0, 0, 0, 0], [0, 0, 0, 0]]).flatten()  # unit 3 would answer 0
    vector[:16] = 0
    evaluation.remember(
        fed, outcome_of(fed, round_of(fed, clients=(0,)), models=submodels(fed, [((0, 1), vector)]), hits=[1])
    )
    assert evaluation.test(fed, 0, constant(1))["test_last"] == pytest.approx(shares(fed, [2, 1, 1, 1]))
    full = submodels(fed, [((0, 1, 2, 3), vector)])
    evaluation.remember(fed, outcome_of(fed, round_of(fed, clients=(0,)), models=full, hits=[1]))
    assert evaluation.test(fed, 0, constant(1))["test_last"] == pytest.approx(shares(fed, [0, 1, 1, 1]))
