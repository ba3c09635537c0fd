"""What every op checks of its arguments before memory is touched; each error is one line.

An op checks where it runs, not where it is traced, so the public functions pass through torch.compile unbroken.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy
import torch

FLOATS = (torch.float32, torch.float64)


def tensor(
    name: str,
    value: torch.Tensor,
    shape: Mapping[str, int | None],
    dtypes: tuple[torch.dtype, ...],
    device: torch.device | None = None,
) -> None:
    """A contiguous tensor of this shape, one of these dtypes, and this device if one is named.

    shape: per dimension its letter in the op's legend and its size; None: any size.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: got {type(value).__name__}, expected a tensor")
    if value.dtype not in dtypes:
        raise TypeError(f"{name}: got dtype {_short(value.dtype)}, expected {' or '.join(map(_short, dtypes))}")
    sizes = list(shape.values())
    if value.dim() != len(sizes) or any(want not in (None, got) for got, want in zip(value.shape, sizes, strict=False)):
        wanted = ", ".join(letter if size is None else f"{letter}={size}" for letter, size in shape.items())
        raise ValueError(f"{name}: got shape {tuple(value.shape)}, expected ({wanted})")
    if device is not None and value.device != device:
        raise ValueError(f"{name}: got device {value.device}, expected {device}")
    if not value.is_contiguous():
        raise ValueError(f"{name}: got strides {value.stride()}, expected a contiguous tensor: use .contiguous()")


def groups(value: torch.Tensor) -> None:
    """Where each group's units begin: (G + 1,) int64 on the CPU, from 0, ascending."""
    tensor("groups", value, {"G+1": None}, (torch.int64,), torch.device("cpu"))
    edges = value.tolist()
    if not edges or edges[0] != 0 or any(last <= first for first, last in pairwise(edges)):
        raise ValueError(f"groups: got {edges}, expected 0 first, then ascending numbers")


def counts(value: torch.Tensor, edges: torch.Tensor, clients: int | None, device: torch.device) -> None:
    """How many units each client keeps of each group: (C, G) int32, 0 <= count <= units of the group."""
    tensor("counts", value, {"C": clients, "G": len(edges) - 1}, (torch.int32,), device)
    given, sizes = _numpy(value), numpy.diff(_numpy(edges))
    place = _first((given < 0) | (given > sizes))
    if place:
        client, group = place
        raise ValueError(
            f"counts: got {given[client, group]} for client {client}, group {group}, "
            f"expected 0 <= count <= {sizes[group]}"
        )


def kept(value: torch.Tensor, numbers: torch.Tensor, edges: torch.Tensor) -> None:
    """Which units each client keeps: (C, U) int32, per group its count's ascending indices; the rest is not read."""
    tensor("kept", value, {"C": len(numbers), "U": int(edges[-1])}, (torch.int32,), numbers.device)
    given, given_counts, firsts = _numpy(value), _numpy(numbers), _numpy(edges)
    sizes = numpy.diff(firsts)
    group = numpy.arange(len(sizes)).repeat(sizes)
    position = numpy.arange(firsts[-1]) - firsts[group]
    before = numpy.full_like(given, -1)
    before[:, 1:] = given[:, :-1]
    before[:, position == 0] = -1
    place = _first((position < given_counts[:, group]) & ((given <= before) | (given >= sizes[group])))
    if place:
        client, unit = place
        raise ValueError(
            f"kept: got {given[client, unit]} for client {client}, group {group[unit]}, place {position[unit]}, "
            f"expected ascending indices below {sizes[group[unit]]}"
        )


def submodels(
    units: torch.Tensor, numbers: torch.Tensor, edges: torch.Tensor, clients: int | None, device: torch.device
) -> None:
    """Counts and kept units of the same clients. clients: None: any number of them."""
    counts(numbers, edges, clients, device)
    kept(units, numbers, edges)


def parts(counts: Mapping[str, torch.Tensor], clients: int, room: Sequence[int], device: torch.device) -> None:
    """How many samples, columns, rows each client's layer has: (C,) int32 each, 0 <= count <= the room there is."""
    for (name, value), most in zip(counts.items(), room, strict=True):
        tensor(name, value, {"C": clients}, (torch.int32,), device)
        given = _numpy(value)
        place = _first((given < 0) | (given > most))
        if place:
            raise ValueError(f"{name}: got {given[place[0]]} for client {place[0]}, expected 0 <= count <= {most}")


def kernel(weights: torch.Tensor) -> int:
    """The size of the kernels of weights (C, O, I, K, K)."""
    height, width = weights.shape[3:]
    if height != width:
        raise ValueError(f"weights: got kernels of {height} x {width}, expected square ones")
    return width


def window(sizes: Sequence[int], kernel: int, stride: int, padding: int) -> None:
    """A kernel that fits maps of these sizes (height, width), and the steps it makes."""
    for name, value, least in (("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if value < least:
            raise ValueError(f"{name}: got {value}, expected at least {least}")
    least = max(kernel - 2 * padding, 1)
    if min(sizes) < least:
        raise ValueError(
            f"inputs: got maps of {sizes[0]} x {sizes[1]}, expected at least {least} x {least} "
            f"for a kernel of {kernel} with padding {padding}"
        )


def number(name: str, value: float, *, at_least: float = -math.inf) -> None:
    """A finite number, not below a bound."""
    if not math.isfinite(value) or value < at_least:
        bound = "a finite number" if at_least == -math.inf else f"a finite number of at least {at_least:g}"
        raise ValueError(f"{name}: got {value}, expected {bound}")


def choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """One of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, expected {' or '.join(allowed)}")


def no_nan(name: str, value: torch.Tensor) -> None:
    """No entry of a (C, U) tensor is NaN."""
    place = _first(_numpy(value.isnan()))
    if place:
        raise ValueError(
            f"{name}: got nan for client {place[0]}, unit {place[1]}, expected numbers that can be compared"
        )


def weights(name: str, value: torch.Tensor, clients: int, device: torch.device) -> None:
    """The clients' weights: (C,) float64, finite, not negative."""
    tensor(name, value, {"C": clients}, (torch.float64,), device)
    given = _numpy(value)
    place = _first(~(numpy.isfinite(given) & (given >= 0)))
    if place:
        raise ValueError(f"{name}: got {given[place[0]]} for client {place[0]}, expected finite weights of at least 0")


def capacity(name: str, value: int, sizes: torch.Tensor) -> None:
    """Room for the largest of the compact sizes."""
    needed = int(sizes.max()) if len(sizes) else 0
    if value < needed:
        raise ValueError(f"{name}: got {value}, expected at least {needed}, the entries of the largest submodel")


def _numpy(value: torch.Tensor) -> Any:
    """The same memory, or a copy of another device's: numpy takes a tenth of torch's time on so few numbers."""
    return value.detach().cpu().numpy()


def _first(flagged: Any) -> list[int]:
    """The place of the first flagged entry; empty if there is none."""
    if not flagged.any():
        return []
    place: list[int] = numpy.argwhere(flagged)[0].tolist()
    return place


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
