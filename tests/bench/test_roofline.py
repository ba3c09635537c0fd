"""The roofline picture of made-up results."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import roofline
from fedlps.errors import InputError

CEILINGS = {"copy": 4e12, "product": 4e14}


def results(*precisions: str) -> dict[str, Any]:
    """Products of three sizes, both ways; a step; and an op without products, of a machine."""

    def entry(name: str, work: float, moved: float, seconds: float, precision: str) -> dict[str, Any]:
        rows = {"ours": seconds, "client by client": 4 * seconds, "ours, again": seconds, "large": 0.0}
        each = {title: {"median": median, "why": ""} for title, median in rows.items()}
        sizes = {"operations": int(work), "moved_bytes": int(moved), "precision": precision}
        return {"name": name, "ceilings": CEILINGS, "rows": each, **sizes}

    entries = []
    for precision in precisions:
        for number, direction in enumerate(("forward", "input gradient", "weight gradient")):
            sizes = [(10.0**n, (number + 4) * 1e7 * n) for n in (8, 9, 10, 11)]
            made = [entry("x", work, moved, work / 2e14 + moved / 3e12, precision) for work, moved in sizes]
            told = {"op": "grouped_conv2d", "direction": direction}
            entries.append({"extra_info": {"machine": "NVIDIA H200", **told, "comparisons": made}})
        step = entry("step", 4.9e11, 8e9, 4e-3, precision)
        entries.append({"extra_info": {"machine": "NVIDIA H200", "comparisons": [step]}})
    move = entry("gather_weights", 0, 1e9, 1e-3, precisions[0])
    entries.append({"extra_info": {"machine": "NVIDIA H200", "op": "gather_weights", "comparisons": [move]}})
    return {"benchmarks": [*entries, {"extra_info": {"round": "preset mnist", "median_s": 1.0}}]}


def test_points() -> None:
    tf32, bf16 = roofline.read(json.dumps(results("tf32", "bf16")))
    assert (tf32.title, bf16.title) == ("NVIDIA H200, tf32", "NVIDIA H200, bf16")
    assert (tf32.copy, tf32.product) == (4e12, 4e14)
    assert len(tf32.points) == 13
    point = tf32.points[-1]
    assert point.series == "whole step"
    assert point.intensity == pytest.approx(61.25)
    assert point.ours == pytest.approx(4.9e11 / 4e-3)
    assert point.other == pytest.approx(4.9e11 / 16e-3)
    assert all(point.ours < min(tf32.product, tf32.copy * point.intensity) for point in tf32.points)


def test_a_picture(tmp_path: Path) -> None:
    source, target = tmp_path / "gpu.json", tmp_path / "roofline.svg"
    source.write_text(json.dumps(results("tf32", "fp32", "bf16")))
    roofline.main([str(source), str(target)])
    drawn = target.read_text()
    for word in ("FLOP / byte", "TFLOP / s", "NVIDIA H200, bf16", "4 TB/s", "400 TFLOP/s", "weight gradient", "hollow"):
        assert word in drawn
    first = target.read_bytes()
    roofline.main([str(source), str(target)])
    assert target.read_bytes() == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "JSONDecodeError"),
        ("[]", "expected the JSON of these benchmarks"),
        ('{"benchmarks": [{"extra_info": {"comparisons": [{}]}}]}', "KeyError 'operations'"),
        ('{"benchmarks": []}', "got no launch that multiplies"),
    ],
)
def test_bad_results(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        roofline.read(text)
    assert "\n" not in str(raised.value)


def test_bad_arguments(tmp_path: Path) -> None:
    for arguments, said in (
        (["one"], "expected RESULTS.json PICTURE.png"),
        ([str(tmp_path / "none.json"), "x.png"], "expected a file"),
        (["x.json", "x.gif"], "expected a name in pdf, svg, png"),
    ):
        with pytest.raises(InputError, match=said):
            roofline.main(arguments)
