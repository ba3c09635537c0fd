"""The paper's VGG11 and cohorts of unequal capabilities: what the ops of the CUDA engine are measured on."""

from dataclasses import replace

from bench.kernels.layers import Layer
from fedlps.engine.cuda.launches import Precision

CAPABILITIES = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
CLIENTS = (10, 100, 1000)
BATCH = 20  # of the preset cifar10

VGG11 = {
    "conv 1, 3 to 64 at 32": Layer(3, 64, size=32, kernel=3, padding=1, all_columns=True),
    "conv 2, 64 to 128 at 16": Layer(64, 128, size=16, kernel=3, padding=1),
    "conv 3, 128 to 256 at 8": Layer(128, 256, size=8, kernel=3, padding=1),
    "conv 4, 256 to 256 at 8": Layer(256, 256, size=8, kernel=3, padding=1),
    "conv 5, 256 to 512 at 4": Layer(256, 512, size=4, kernel=3, padding=1),
    "conv 6, 512 to 512 at 4": Layer(512, 512, size=4, kernel=3, padding=1),
    "conv 7, 512 to 512 at 2": Layer(512, 512, size=2, kernel=3, padding=1),  # and conv 8
}
STAGES = {  # behind each convolution: channels, height and width, and whether a maximum over 2 x 2 follows
    "stage 1, 64 at 32": (64, 32, True),
    "stage 2, 128 at 16": (128, 16, True),
    "stage 3, 256 at 8": (256, 8, False),
    "stage 4, 256 at 8": (256, 8, True),
    "stage 5, 512 at 4": (512, 4, False),
    "stage 6, 512 at 4": (512, 4, True),
    "stage 7, 512 at 2": (512, 2, False),
    "stage 8, 512 at 2": (512, 2, True),
}
MIXES = ("all whole", "all sixteenths", "uniform", "one large")


def ratios(mix: str, clients: int) -> tuple[float, ...]:
    """Of each client. uniform: every capability as often; one large: a whole model among sixteenths."""
    each = {
        "all whole": [1.0] * clients,
        "all sixteenths": [1 / 16] * clients,
        "uniform": [CAPABILITIES[client % len(CAPABILITIES)] for client in range(clients)],
        "one large": [1.0] + [1 / 16] * (clients - 1),
    }
    return tuple(each[mix])


def cohorts() -> list[tuple[int, str]]:
    """Every mix of 10 and 100 clients, of 1000 those of unequal clients."""
    every = [(clients, mix) for clients in CLIENTS for mix in MIXES]
    return [(clients, mix) for clients, mix in every if clients < CLIENTS[-1] or not mix.startswith("all")]


def cases() -> list[tuple[int, str, Precision]]:
    """Every cohort in TF32, the uniform ones in the other precisions too."""
    every: tuple[Precision, ...] = ("tf32", "fp32", "bf16")
    return [(*cohort, one) for cohort in cohorts() for one in (every if cohort[1] == "uniform" else every[:1])]


def of(layer: Layer, mix: str, clients: int, batch: int = BATCH) -> Layer:
    """The layer with such a cohort."""
    return replace(layer, ratios=ratios(mix, clients), batch=batch)
