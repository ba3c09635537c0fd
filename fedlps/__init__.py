"""FedLPS: federated learning in which every client trains its own structured-sparse submodel of one global model.

`fedlps.run(...)` runs a simulation, as `fedlps run` does on the command line. Importing the package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "register_model", "run"]

if TYPE_CHECKING:
    from fedlps.launch import Run, run
    from fedlps.models import register as register_model
else:
    # a subpackage is bound to its name when it is first imported: import it before the function takes the name
    importlib.import_module("fedlps.run")

    def run(*arguments: Any, **keywords: Any) -> Run:
        """Run a simulation; see `fedlps.launch.run` for the arguments."""
        from fedlps import launch

        return launch.run(*arguments, **keywords)

    def __getattr__(name: str) -> Any:
        if name == "Run":
            return importlib.import_module("fedlps.launch").Run
        if name == "register_model":
            return importlib.import_module("fedlps.models").register
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
