"""A client's gated round in numpy, written out by hand from sections 2 to 4: no autograd, no hooks, no flat layout.

A network is a list of steps as `fedlps.models.chain` takes them, without strides, norms and average pooling.
"""

from dataclasses import dataclass, field

import numpy


@dataclass
class Outcome:
    """What the round leaves, and what every step saw."""

    parameters: numpy.ndarray
    redundancy: list[numpy.ndarray]
    kept_by_step: list[list[list[int]]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    hits: int = 0


def smallest(values: numpy.ndarray, count: int) -> list[int]:
    """The positions of the smallest values, ties to the lower position, ascending."""
    return sorted(sorted(range(len(values)), key=lambda j: (values[j], j))[:count])


def dense_round(steps, shapes, received, batches, counts, *, units=None, redundancy=None, **config) -> Outcome:
    """Train. shapes: of every weight and bias, in order. batches: (x, y) per step. units: fixed kept units per layer.

    config: lr, momentum, weight_decay, clip, mu, lam, kappa, norm.
    """
    pieces = numpy.split(received.copy(), numpy.cumsum([int(numpy.prod(shape)) for shape in shapes])[:-1])
    tensors = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
    weights, biases = tensors[0::2], tensors[1::2]
    before = [tensor.copy() for tensor in tensors]
    velocity = [numpy.zeros_like(tensor) for tensor in tensors]
    d = [] if redundancy is None else [values.copy() for values in redundancy]
    outcome = Outcome(received, d)
    for x, y in batches:
        kept = units if units is not None else [smallest(own, n) for own, n in zip(d, counts, strict=True)]
        outcome.kept_by_step.append(kept)
        gates = []
        for weight, own in zip(weights, [*kept, range(len(weights[-1]))], strict=True):
            gate = numpy.zeros(len(weight))
            gate[list(own)] = 1
            gates.append(gate)
        loss, hits, gradients = backward(steps, weights, biases, gates, x, y)
        outcome.losses.append(loss)
        outcome.hits += hits
        masks = []
        columns = numpy.ones(weights[0].shape[1])
        for weight, gate in zip(weights, gates, strict=True):
            spread = numpy.repeat(columns, weight.shape[1] // len(columns))
            mask = gate[:, None] * spread
            masks += [mask.reshape(mask.shape + (1,) * (weight.ndim - 2)) * numpy.ones_like(weight), gate]
            columns = gate
        gradients = [gradient * mask for gradient, mask in zip(gradients, masks, strict=True)]
        targets = [1 / (1 + numpy.exp(abs(weight).reshape(len(weight), -1).sum(1))) for weight in weights]
        for layer in range(len(d)):
            worth = (weights[layer] * gradients[2 * layer]).reshape(len(weights[layer]), -1).sum(1)
            task = (worth + biases[layer] * gradients[2 * layer + 1]) * gates[layer]
            c = 2 * config["lam"] / (len(d[layer]) if config["norm"] == "mean" else 1)
            d[layer] = d[layer] - config["lr"] * (c * (d[layer] - targets[layer]) - config["kappa"] * task)
        pull = 2 * config["mu"] / (received.size if config["norm"] == "mean" else 1)
        q = [
            (gradient + pull * (tensor - start)) * mask
            for gradient, tensor, start, mask in zip(gradients, tensors, before, masks, strict=True)
        ]
        if config["clip"] > 0:
            length = numpy.sqrt(sum((part**2).sum() for part in q))
            q = [part * min(1, config["clip"] / (length + 1e-6)) for part in q]
        for number, (tensor, mask) in enumerate(zip(tensors, masks, strict=True)):
            held = mask > 0
            move = q[number] + config["weight_decay"] * tensor
            velocity[number][held] = config["momentum"] * velocity[number][held] + move[held]
            tensor[held] -= config["lr"] * velocity[number][held]
    outcome.parameters = numpy.concatenate([tensor.ravel() for tensor in tensors])
    return outcome


def forward(steps, weights, biases, gates, x):
    """The outputs, and per step what its gradient needs."""
    memory, layer = [], 0
    for step in steps:
        memory.append(x)
        match step:
            case ["conv", _, k, 1, pad]:
                padded = numpy.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
                height, width = padded.shape[2] - k + 1, padded.shape[3] - k + 1
                x = numpy.zeros((len(x), len(weights[layer]), height, width))
                for i in range(k):
                    for j in range(k):
                        window = padded[:, :, i : i + height, j : j + width]
                        x += numpy.einsum("bchw,oc->bohw", window, weights[layer][:, :, i, j])
                x = (x + biases[layer][:, None, None]) * gates[layer][:, None, None]
                layer += 1
            case ["linear", _]:
                x = (x @ weights[layer].T + biases[layer]) * gates[layer]
                layer += 1
            case ["relu"]:
                x = numpy.maximum(x, 0)
            case ["maxpool", k]:
                height, width = x.shape[2] // k, x.shape[3] // k
                x = x[:, :, : height * k, : width * k].reshape(*x.shape[:2], height, k, width, k).max((3, 5))
            case ["flatten"]:
                x = x.reshape(len(x), -1)
    return x, memory


def backward(steps, weights, biases, gates, x, y):
    """Mean cross entropy, hits, and the gradients of the gated network, weight and bias by turns."""
    outputs, memory = forward(steps, weights, biases, gates, x)
    exponentials = numpy.exp(outputs - outputs.max(1, keepdims=True))
    shares = exponentials / exponentials.sum(1, keepdims=True)
    loss = -numpy.log(shares[numpy.arange(len(y)), y]).mean()
    flow = shares
    flow[numpy.arange(len(y)), y] -= 1
    flow = flow / len(y)
    layer, gradients = len(weights), []
    for step, entered in reversed(list(zip(steps, memory, strict=True))):
        match step:
            case ["conv", _, k, 1, pad]:
                layer -= 1
                flow = flow * gates[layer][:, None, None]
                padded = numpy.pad(entered, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
                height, width = flow.shape[2:]
                weight, back = numpy.zeros_like(weights[layer]), numpy.zeros_like(padded)
                for i in range(k):
                    for j in range(k):
                        window = padded[:, :, i : i + height, j : j + width]
                        weight[:, :, i, j] = numpy.einsum("bohw,bchw->oc", flow, window)
                        part = numpy.einsum("bohw,oc->bchw", flow, weights[layer][:, :, i, j])
                        back[:, :, i : i + height, j : j + width] += part
                gradients = [weight, flow.sum((0, 2, 3)), *gradients]
                flow = back[:, :, pad : padded.shape[2] - pad, pad : padded.shape[3] - pad]
            case ["linear", _]:
                layer -= 1
                flow = flow * gates[layer]
                gradients = [flow.T @ entered, flow.sum(0), *gradients]
                flow = flow @ weights[layer]
            case ["relu"]:
                flow = flow * (entered > 0)
            case ["maxpool", k]:
                back = numpy.zeros_like(entered)
                for b, c, h, w in numpy.ndindex(*flow.shape):
                    window = entered[b, c, h * k : h * k + k, w * k : w * k + k]
                    i, j = numpy.unravel_index(window.argmax(), window.shape)
                    back[b, c, h * k + i, w * k + j] += flow[b, c, h, w]
                flow = back
            case ["flatten"]:
                flow = flow.reshape(entered.shape)
    return float(loss), int((outputs.argmax(1) == y).sum()), gradients
