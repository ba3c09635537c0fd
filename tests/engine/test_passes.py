"""Steps of several passes and scaled outputs, against a two-layer network written out by hand in float64."""

import numpy
import pytest
import torch

from fedlps.engine.plan import Hold, Job, Pass, Plan, Segment
from fedlps.models import chain
from fedlps.program import initial_parameters
from tests.engine.cases import cohort_of, executor_of, first_units, samples

SHAPE = (1, 2, 2)
HIDDEN, CLASSES = 6, 3
STEPS = (["flatten"], ["linear", HIDDEN], ["relu"], ["linear", CLASSES])
SIZES = (4 * HIDDEN, HIDDEN, HIDDEN * CLASSES, CLASSES)
BATCHES = [[0, 1, 2], [3, 4, 5, 6], [7, 8], [2, 5, 9], [1, 3]]
DATA = samples(SHAPE, CLASSES, 10, seed=3)
LR = 0.3


def softmax(outputs: numpy.ndarray) -> numpy.ndarray:
    powers = numpy.exp(outputs - outputs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def leading(width: int) -> numpy.ndarray:
    """(P,) the entries of the first units."""
    inside = numpy.arange(HIDDEN) < width
    return numpy.concatenate([inside.repeat(4), inside, numpy.tile(inside, CLASSES), numpy.ones(CLASSES, bool)])


def by_hand(flat, batch, width=HIDDEN, scale=1.0, targets=None):
    """The gradient (P,), the class shares and the mean cross entropy of the first units."""
    a, b, c, d = numpy.split(flat, numpy.cumsum(SIZES)[:-1])
    first, second = a.reshape(HIDDEN, 4)[:width], c.reshape(CLASSES, HIDDEN)[:, :width]
    x, y = DATA.batch(numpy.array(batch))
    x = x.reshape(len(x), -1)
    before = scale * (x @ first.T + b[:width])
    hidden = numpy.maximum(before, 0)
    shares = softmax(hidden @ second.T + d)
    wanted = numpy.eye(CLASSES)[y] if targets is None else targets
    flow = (shares - wanted) / len(x)
    back = scale * (flow @ second) * (before > 0)
    gradient = [numpy.zeros((HIDDEN, 4)), numpy.zeros(HIDDEN), numpy.zeros((CLASSES, HIDDEN)), flow.sum(0)]
    gradient[0][:width], gradient[1][:width], gradient[2][:, :width] = back.T @ x, back.sum(0), flow.T @ hidden
    loss = -(wanted * numpy.log(shares)).sum(1).mean()
    return numpy.concatenate([part.ravel() for part in gradient]), shares, loss


def trained(segments, count=HIDDEN, scale=None):
    program, executor = executor_of(chain(SHAPE, STEPS), SHAPE, DATA)
    start = torch.from_numpy(initial_parameters(program, 0))
    job = Job(0, Hold((count,), first_units(program, (count,))), segments, scale=scale)
    got = executor.train(start, Plan((job,), frozenset({"parameters", "losses"})), cohort_of(BATCHES))
    return start.numpy().copy(), got.probes["parameters"][0].numpy(), got.probes["losses"][0]


def agree(got: numpy.ndarray, want: numpy.ndarray) -> None:
    numpy.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("count", "scale"), [(HIDDEN, 1.0), (3, 2.0), (4, 1.5), (1, 6.0)])
def test_scaled_outputs(count, scale) -> None:
    """The scaler multiplies the thinned layer's outputs, bias included, and the output layer's not."""
    w, got, losses = trained((Segment(LR),), count, (scale,))
    for step, batch in enumerate(BATCHES):
        gradient, _, loss = by_hand(w, batch, count, scale)
        assert losses[step] == pytest.approx(loss, rel=1e-12)
        w = w - LR * gradient
    agree(got, w)


def test_the_scale_comes_before_the_norm() -> None:
    """A norm after the layer takes the scale away but for its epsilon."""
    shape, steps = (1, 4, 4), (["conv", 4, 3, 1, 1], ["norm"], ["relu"], ["flatten"], ["linear", 2])
    data = samples(shape, 2, 8)
    program, executor = executor_of(chain(shape, steps), shape, data)
    start = torch.from_numpy(initial_parameters(program, 0))
    hold = Hold((2,), first_units(program, (2,)))
    plain, scaled = (
        executor.train(
            start, Plan((Job(0, hold, (Segment(0.1),), scale=scale),), frozenset({"losses"})), cohort_of([[*range(8)]])
        ).probes["losses"][0][0]
        for scale in (None, (2.0,))
    )
    assert plain != scaled
    assert scaled == pytest.approx(plain, abs=1e-3)


def test_a_pass_at_the_point_that_an_earlier_one_leads_to() -> None:
    """w' = w - alpha g(w) on the step's batch, then g(w') on the next batch, which is the step (first order MAML)."""
    alpha = 0.2
    passes = (Pass(weight=0.0), Pass(batch=1, at=((0, -alpha),)))
    w, got, losses = trained((Segment(LR, passes=passes),))
    for step, batch in enumerate(BATCHES):
        ahead, _, loss = by_hand(w, batch)
        assert losses[step] == pytest.approx(loss, rel=1e-12), "the first pass tells the loss"
        meta, _, _ = by_hand(w - alpha * ahead, BATCHES[(step + 1) % len(BATCHES)])
        w = w - LR * meta
    agree(got, w)


def test_at_adds_up_several_earlier_passes() -> None:
    passes = (Pass(), Pass(batch=2, weight=0.0), Pass(batch=-1, at=((0, -0.1), (1, 0.3)), weight=-0.5))
    w, got, _ = trained((Segment(LR, passes=passes),))
    for step, batch in enumerate(BATCHES):
        first, _, _ = by_hand(w, batch)
        second, _, _ = by_hand(w, BATCHES[(step + 2) % len(BATCHES)])
        third, _, _ = by_hand(w - 0.1 * first + 0.3 * second, BATCHES[(step - 1) % len(BATCHES)])
        w = w - LR * (first - 0.5 * third)
    agree(got, w)


def test_widths_leave_the_entries_outside_alone() -> None:
    """Neither gradient nor weight decay nor momentum moves what the step's width does not hold."""
    widths, momentum, decay = (1, 3, 4, 2, 4), 0.7, 0.05
    one = Pass(widths=tuple((width,) for width in widths))
    w, got, losses = trained((Segment(LR, momentum, decay, passes=(one,)),), 4)
    start, velocity = w.copy(), numpy.zeros_like(w)
    for step, (batch, width) in enumerate(zip(BATCHES, widths, strict=True)):
        gradient, _, loss = by_hand(w, batch, width)
        assert losses[step] == pytest.approx(loss, rel=1e-12)
        inside = leading(width)
        velocity[inside] = momentum * velocity[inside] + (gradient + decay * w)[inside]
        w = w - LR * numpy.where(inside, velocity, 0)
    agree(got, w)
    numpy.testing.assert_array_equal(got[~leading(4)], start[~leading(4)])


def test_the_narrow_width_learns_from_the_wide_one() -> None:
    """CE(F_wide, y) + CE(F_narrow, softmax(F_wide)), the teacher as it is; None: a step without a narrow pass."""
    widths, momentum, decay = (1, None, 3, 2, None), 0.5, 0.02
    narrow = Pass(widths=tuple(None if width is None else (width,) for width in widths), teacher=0)
    w, got, losses = trained((Segment(LR, momentum, decay, passes=(Pass(), narrow)),), 4)
    inside, velocity = leading(4), numpy.zeros_like(w)
    for step, (batch, width) in enumerate(zip(BATCHES, widths, strict=True)):
        gradient, shares, loss = by_hand(w, batch, 4)
        assert losses[step] == pytest.approx(loss, rel=1e-12)
        if width is not None:
            gradient = gradient + by_hand(w, batch, width, targets=shares)[0]
        velocity = numpy.where(inside, momentum * velocity + gradient + decay * w, 0)
        w = w - LR * velocity
    agree(got, w)


def test_widths_count_from_the_start_of_their_segment() -> None:
    segments = (Segment(LR, steps=2), Segment(LR, passes=(Pass(widths=((1,), (2,), (3,))),)))
    w, got, _ = trained(segments)
    for batch, width in zip(BATCHES, (HIDDEN, HIDDEN, 1, 2, 3), strict=True):
        w = w - LR * by_hand(w, batch, width)[0]
    agree(got, w)


def test_a_pass_may_not_refer_to_one_that_is_left_out() -> None:
    passes = (Pass(), Pass(widths=(None,) * len(BATCHES)), Pass(at=((1, 1.0),)))
    with pytest.raises(ValueError, match="pass 1: is left out"):
        trained((Segment(LR, passes=passes),))
