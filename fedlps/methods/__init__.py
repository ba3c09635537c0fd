"""One short file per method; importing this package registers them all."""

import importlib
import pkgutil

from fedlps.recipe import REGISTRY

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

METHODS = REGISTRY

__all__ = ["METHODS"]
