"""FedLPS: federated learning in which every client trains its own structured-sparse submodel of one global model.

`fedlps.run(...)` runs a simulation, as `fedlps run` does on the command line. Importing the package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlps.launch import Run, run
    from fedlps.models import register as register_model

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "register_model", "run"]


def __getattr__(name: str) -> Any:
    if name in ("run", "Run"):
        from fedlps import launch

        return getattr(launch, name)
    if name == "register_model":
        from fedlps.models import register

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
