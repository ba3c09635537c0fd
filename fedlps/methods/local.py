"""Local: every client trains alone from the initial model, whenever it is selected; nothing is shared.

The floor that federated learning has to beat: no communication at all.
"""

from fedlps.recipe import Method, Parameters, accounting, evaluation, objective, personal, register, upload
from fedlps.run.config import Config


class LocalParameters(Parameters):
    """It has no parameters of its own."""


@register("local", LocalParameters, __doc__)
def local(parameters: LocalParameters, config: Config) -> Method:
    """The only job of a client is its own; the global model stays what it was at the start."""
    return Method(
        objective=personal.staying(objective.cross_entropy(start=personal.own_model)),
        upload=upload.nothing,
        evaluation=evaluation.PersonalModels(),
        accounting=accounting.Accounting(up=accounting.no_bytes, down=accounting.no_bytes),
    )
