"""FedMP: a bandit per client picks how much of the model it gets, the units of the largest weights.

Jiang, Xu, Xu, Wang, Qiao, Zhao. ICDE 2022. https://doi.org/10.1109/ICDE53745.2022.00062
"""

from dataclasses import dataclass

import numpy
from pydantic import Field

from fedlps.engine.cohort import Indices
from fedlps.randomness import Purpose, stream
from fedlps.recipe import Method, Parameters, accounting, aggregation, capable, counts, download, register
from fedlps.recipe.eucb import Agent
from fedlps.recipe.federation import Federation, Floats, Outcome
from fedlps.run.config import Config

NUMBER = 10  # of its streams
SHORTEST_GAP = 1e-6  # seconds


class FedMPParameters(Parameters):
    lowest: float = Field(default=0.2, gt=0, le=1, description="smallest ratio of units that a client may get")
    discount: float = Field(default=0.98, gt=0, le=1, description="what a reward is worth one pull later")
    leaf: float = Field(default=0.05, gt=0, le=1, description="a range of ratios this small is not divided")


@dataclass(frozen=True)
class Agents:
    """A ratio by each client's E-UCB, whatever the capability. Its state is the client's part `bandit`."""

    parameters: FedMPParameters

    def choose(self, federation: Federation, clients: Indices, capabilities: Floats) -> Floats:
        """Each agent's next pull."""
        return numpy.array([self._pull(federation, int(client)) for client in clients])

    def observe(self, federation: Federation, outcome: Outcome) -> None:
        """Reward who counts: the loss it lost over how far its time is from the mean; the first loss starts it."""
        seconds = numpy.array([cost.seconds for cost in outcome.costs])
        gaps = numpy.maximum(abs(seconds - seconds.mean()), SHORTEST_GAP)
        for position in numpy.flatnonzero(outcome.counted).tolist():
            client, loss = int(outcome.round.clients[position]), float(outcome.result.losses[position])
            agent = self._agent(federation, client)
            if agent.taken == 0:
                updated = agent.started(loss)
            else:
                reward = (agent.loss - loss) / float(gaps[position])
                updated = agent.pulled(float(outcome.round.ratios[position]), reward, loss, self.parameters.leaf)
            federation.store.put_client(client, "bandit", updated.to_arrays())

    def _pull(self, federation: Federation, client: int) -> float:
        agent = self._agent(federation, client)
        rng = stream(federation.config.seed, Purpose.METHOD + NUMBER, 0, agent.taken, client)
        return agent.choose(self.parameters.discount, rng)

    def _agent(self, federation: Federation, client: int) -> Agent:
        stored = federation.store.get_client(client, "bandit")
        return Agent((self.parameters.lowest, 1.0)) if stored is None else Agent.from_arrays(stored)


@register("fedmp", FedMPParameters, __doc__)
def fedmp(parameters: FedMPParameters, config: Config) -> Method:
    """What a client did not get is recovered from the global model, so its residual is 0 there (R2SP).

    Extra operations: the server's one per entry that it adds up for the units' norms.
    """
    return Method(
        ratio=Agents(parameters),
        download=download.pattern_units("magnitude"),
        aggregation=aggregation.residuals("residual"),
        evaluation=capable.CapableModels(),
        accounting=accounting.Accounting(
            down=accounting.held_entries(), besides=lambda federation, round_, position: federation.program.size
        ),
        measure=counts.rows_and_columns(),
    )
