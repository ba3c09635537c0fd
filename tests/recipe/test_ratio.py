"""Ratios: fixed, by capability, and the bandit's, whose state is read back from the store after every round."""

import math

import numpy
import pytest

from fedlps.bandit import Bandit, BanditParameters
from fedlps.cost import Work, relative_cost
from fedlps.recipe import ratio
from tests.recipe.federations import federation, outcome_of, round_of

PARAMETERS = BanditParameters(xi=2.5)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [("rcr", ratio.Capability), (0.5, ratio.Fixed), (1, ratio.Fixed), ("p-ucbv", ratio.BanditPerClient)],
)
def test_the_rule_that_is_configured(rule, kind):
    assert isinstance(ratio.configured(federation({"ratio.rule": rule}).config), kind)


def test_the_bandits_parameters_are_the_configurations():
    given = {"ratio.arms": [0.5, 1], "ratio.initial": 3, "ratio.rho": 0.7, "ratio.delta": -0.1}
    fed = federation({**given, "rounds": 30, "fraction": 0.5})
    got = ratio.configured(fed.config)
    assert got.parameters == BanditParameters(xi=30 / (4 * 0.5), arms=(0.5, 1), initial=3, rho=0.7, delta=-0.1)


def test_a_fixed_ratio_ignores_capability_and_rcr_is_it():
    fed, capabilities = federation(), numpy.array([1, 0.25])
    clients = numpy.array([3, 1])
    assert ratio.Fixed(0.5).choose(fed, clients, capabilities).tolist() == [0.5, 0.5]
    assert ratio.Capability().choose(fed, clients, capabilities).tolist() == [1, 0.25]


def test_the_bandits_decision_is_bounded_by_capability():
    fed = federation()
    rule = ratio.BanditPerClient(PARAMETERS)
    clients = numpy.arange(4)
    own = [Bandit.start(PARAMETERS, 0, client).ratio for client in range(4)]
    assert rule.choose(fed, clients, numpy.ones(4)).tolist() == own
    low = numpy.full(4, sorted(own)[1])
    assert rule.choose(fed, clients, low).tolist() == numpy.minimum(own, low).tolist()
    assert fed.store.clients == {}, "choosing leaves no trace"


def accuracy_before(fed, round_, position: int) -> float:
    """Of the received full-width model on the client's training data, counted by hand."""
    inputs, labels = fed.executor.executor.samples.batch(round_.training[position])
    weight, bias, output, last = (piece.numpy() for piece in round_.global_parameters.split([16, 4, 12, 3]))
    hidden = numpy.maximum(inputs.reshape(-1, 4) @ weight.reshape(4, 4).T + bias, 0)
    return float(((hidden @ output.reshape(3, 4).T + last).argmax(1) == labels).mean())


def test_observe_updates_store_by_store():
    """Positions: 0 counts, 1 diverged, 2 was dropped, 3 counts with a bounded ratio."""
    fed = federation()
    rule = ratio.BanditPerClient(PARAMETERS)
    clients = (2, 0, 3, 1)
    starts = {client: Bandit.start(PARAMETERS, 0, client) for client in clients}
    ratios = [starts[2].ratio, starts[0].ratio, starts[3].ratio, 0.01]
    capabilities = (1.0, 0.5, 1.0, 0.25)
    round_ = round_of(fed, 0, clients, ratios, capabilities)
    outcome = outcome_of(fed, round_, hits=[6, 8, 4, 3], diverged=[1], dropped=[2])
    rule.observe(fed, outcome)
    assert sorted(fed.store.clients) == [(0, "bandit"), (1, "bandit"), (2, "bandit")]

    def updated(bandit, position, share, previous, counted, of=round_):
        counts = fed.program.counts(of.ratios[position])
        cost = relative_cost(fed.program, counts, Work(9, 4, 1), capabilities[position], fed.rates)
        return bandit.update(
            PARAMETERS, 0, int(of.clients[position]), ratio=float(of.ratios[position]), accuracy=share,
            previous=previous, cost=cost, counted=counted,
        )  # fmt: skip

    want = {
        2: updated(starts[2], 0, 6 / 9, accuracy_before(fed, round_, 0), True),
        0: updated(starts[0], 1, 0.0, accuracy_before(fed, round_, 1), False),
        1: updated(starts[1], 3, 3 / 9, accuracy_before(fed, round_, 3), True),
    }
    for client, bandit in want.items():
        stored = Bandit.from_arrays(fed.store.clients[client, "bandit"])
        assert repr(stored) == repr(bandit)
    assert math.isnan(want[0].previous), "one that diverged first has no previous accuracy yet"
    assert want[2].previous == 6 / 9
    assert len({accuracy_before(fed, round_, position) for position in range(4)} | {0.0}) > 1

    again = round_of(fed, 1, clients, rule.choose(fed, round_.clients, numpy.array(capabilities)), capabilities)
    assert again.ratios[2] == starts[3].ratio, "dropped: as if it had not taken part"
    fed.executor.asked.clear()
    rule.observe(fed, outcome_of(fed, again, hits=[7, 1, 9, 2], diverged=[0]))
    after = {client: Bandit.from_arrays(fed.store.clients[client, "bandit"]) for client in clients}
    assert repr(after[2]) == repr(updated(want[2], 0, 0.0, 6 / 9, False, again))
    assert after[2].previous == 6 / 9, "the previous accuracy stays when a client diverges"
    assert repr(after[0]) == repr(updated(want[0], 1, 1 / 9, accuracy_before(fed, again, 1), True, again))
    assert repr(after[3]) == repr(updated(starts[3], 2, 1.0, accuracy_before(fed, again, 2), True, again))
    assert repr(after[1]) == repr(updated(want[1], 3, 2 / 9, 3 / 9, True, again))
    # only those without a counted participation are evaluated on the received model
    asked = sorted(own for _, owns, part in fed.executor.asked if part == "train" for own in owns)
    assert asked == sorted([again.training[1].tolist(), again.training[2].tolist()])
