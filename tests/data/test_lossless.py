import zlib

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fedlps.data.lossless import GUESSED, PLAIN, decode, encode


@given(st.integers(1, 4), st.sampled_from([1, 2, 3]), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_nothing_is_lost(count: int, channels: int, height: int, width: int, seed: int) -> None:
    rng = numpy.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, channels, height, width)).astype(numpy.uint8)
    smooth = (numpy.cumsum(numpy.cumsum(noise % 3, 2), 3) + 250).astype(numpy.uint8)  # goes past 255, too
    for images in (noise, smooth, numpy.zeros_like(noise)):
        assert_array_equal(decode(encode(images), images.shape), images)


def test_whatever_is_smaller_is_taken() -> None:
    rows, columns = numpy.mgrid[0:32, 0:32]
    ramp = (3 * rows + 2 * columns)[None, None] + numpy.random.default_rng(0).integers(0, 3, (40, 3, 32, 32))
    assert encode(ramp.astype(numpy.uint8))[:1] == GUESSED
    assert len(encode(ramp.astype(numpy.uint8))) < 0.4 * ramp.size
    dots = numpy.where(numpy.random.default_rng(0).random((40, 1, 32, 32)) < 0.05, 255, 0).astype(numpy.uint8)
    assert encode(dots)[:1] == PLAIN


def test_other_bytes_are_refused_without_inflating_them_all() -> None:
    images = numpy.ones((2, 3, 4, 5), numpy.uint8)
    content = encode(images)
    for wrong in (b"", content[:-1], b"\7" + content[1:], PLAIN + b"x", PLAIN + zlib.compress(bytes(10**7))):
        with pytest.raises(ValueError):  # noqa: PT011
            decode(wrong, images.shape)
    with pytest.raises(ValueError, match="expected 60"):
        decode(content, (1, 3, 4, 5))
