"""CS: complement sparsification, the server sends a sparse model and the clients return its complement.

Jiang, Borcea. AAAI 2023. https://arxiv.org/abs/2211.12677
"""

from pydantic import Field

from fedlps.recipe import Method, Parameters, complement, register, upload
from fedlps.run.config import Config


class CSParameters(Parameters):
    """How much is pruned, and how much weight the complement has."""

    share: float = Field(0.5, ge=0, lt=1, description="share of each layer's weights that the server prunes")
    server_rate: float = Field(1.5, ge=0, description="what the mean of the clients' complements is multiplied by")


@register("cs", CSParameters, __doc__)
def cs(parameters: CSParameters, config: Config) -> Method:
    """Clients train the sparse model densely and return only what the mask leaves out."""
    return Method(
        upload=upload.held_entries(complement.travels),
        aggregation=complement.pruned_sum(parameters.share, parameters.server_rate),
        accounting=complement.complement_accounting(),
    )
