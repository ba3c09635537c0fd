"""The architecture as a rule: each layer imports what is below it and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RANKS = (
    {"fedlps_kernels"},
    {"fedlps.errors", "fedlps.interruption", "fedlps.__version__"},
    {
        "fedlps.program",
        "fedlps.flow",
        "fedlps.trace",
        "fedlps.models",
        "fedlps.bandit",
        "fedlps.cost",
        "fedlps.randomness",
        "fedlps.stream_check",
    },
    {"fedlps.engine", "fedlps.run", "fedlps.data"},
    {"fedlps.recipe"},
    {"fedlps.methods", "fedlps.history"},
    {"fedlps.simulation", "fedlps.samples"},
    {"fedlps.launch"},
    {"fedlps.report"},
    {"fedlps.commands"},
    {"fedlps.cli"},
    {"fedlps.__main__"},
)
FILES = sorted([*(ROOT / "fedlps").rglob("*.py"), *(ROOT / "fedlps_kernels").rglob("*.py")])


def unit(module: str) -> str:
    """The rank's name for a module: its package, and the part of fedlps it belongs to."""
    parts = module.split(".")
    return parts[0] if parts[0] != "fedlps" else ".".join(parts[:2])


def rank(name: str) -> int:
    """The position of a unit among the layers, the lowest 0."""
    return next(index for index, names in enumerate(RANKS) if name in names)


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if node.module == "fedlps" else node.module for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("fedlps", "fedlps_kernels")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = unit(module)
    if own == "fedlps":  # the package itself only forwards to the layers, when asked
        return
    for imported in imports(path):
        target = unit(imported)
        assert target == own or rank(target) <= rank(own), f"{module} imports {imported}, which is above it"
        same_layer = rank(target) == rank(own) and target != own
        assert not same_layer or rank(own) == 2, f"{module} imports {imported} beside it"


@pytest.mark.parametrize("statement", ["import fedlps", "import fedlps.cli"])
def test_import_is_light(statement: str) -> None:
    code = f"{statement}; import sys; print(sorted({{'torch', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_no_method_is_named_outside_its_file() -> None:
    named = [
        (path.relative_to(ROOT), name)
        for path in FILES
        if "methods" not in path.parts
        for name in ("fedavg",)
        if f'"{name}"' in path.read_text()
    ]
    assert named == []
