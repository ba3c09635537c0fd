"""The golden cases, and that the runner notices when one is broken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests.golden import kinds
from tests.golden.__main__ import main
from tests.golden.compare import close, exact
from tests.golden.kinds.select import cut_is_lost
from tests.golden.options import TOLERANCES, Options, SkippedError, missing
from tests.golden.runner import case_files, run_case

DATA = Path(__file__).parent / "data"
CASES = case_files(DATA)
ANSWERS_IN_JSON = ["bandit_gaps", "cost_mnist_quarter", "draws", "select_ties", "split_lacking", "streams"]
ANSWERS_IN_NPZ = ["aggregate_holders", "aggregate_residual", "init_norm"]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("executor", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path, executor, dtype):
    if reason := missing(executor):
        pytest.skip(reason)
    outcome = run_case(path, Options(executor, dtype))
    assert outcome.status == "ok", str(outcome)


def test_every_case_is_here():
    assert len(CASES) == 53
    assert {path.stem for path in DATA.glob("*.npz")} == {path.stem for path in CASES}


def copy(name: str, folder: Path) -> Path:
    for suffix in (".json", ".npz"):
        shutil.copy((DATA / name).with_suffix(suffix), folder)
    return (folder / name).with_suffix(".json")


def leaves(node, path=()):
    """The paths of all numbers in nested lists and dicts."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    elif isinstance(node, int | float):
        yield path


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", ANSWERS_IN_JSON)
def test_any_changed_answer_in_the_json_fails(tmp_path, name, dtype):
    path = copy(name, tmp_path)
    case = json.loads(path.read_text())
    answers = list(leaves(case["want"]))
    for answer in answers[:: len(answers) // 4 or 1]:
        changed = json.loads(path.read_text())
        *way, last = ("want", *answer)
        node = changed
        for key in way:
            node = node[key]
        node[last] += 1 if isinstance(node[last], int) else max(1e-3 * abs(node[last]), 1e-6)
        (tmp_path / "changed.json").write_text(json.dumps(changed))
        shutil.copy(path.with_suffix(".npz"), tmp_path / "changed.npz")
        outcome = run_case(tmp_path / "changed.json", Options(dtype=dtype))
        assert outcome.status == "FAILED", answer
        assert " got " in str(outcome)
        assert " want " in str(outcome)


@pytest.mark.parametrize(("dtype", "change"), [("float64", 1e-8), ("float32", 1e-3)])
@pytest.mark.parametrize("name", ANSWERS_IN_NPZ)
def test_a_changed_answer_in_the_npz_fails(tmp_path, name, dtype, change):
    path = copy(name, tmp_path)
    with numpy.load(path.with_suffix(".npz")) as loaded:
        arrays = dict(loaded)
    answer = "params" if name.startswith("init") else "params_out"
    arrays[answer][5] += change * numpy.abs(arrays[answer]).max()
    numpy.savez(path.with_suffix(".npz"), **arrays)
    outcome = run_case(path, Options(dtype=dtype))
    assert outcome.status == "FAILED"
    assert f"{answer}" in outcome.detail
    assert "[5]: got " in outcome.detail


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"kind": "horoscope"}', "kind: got 'horoscope', allowed: "),
        ('{"kind": "../bandit"}', "kind: got '../bandit', allowed: "),
        ('{"kind": ["bandit"]}', "kind: got ['bandit'], allowed: "),
        ('{"name": "nothing else"}', "KeyError: 'kind'"),
        ('{"kind": "bandit", "seed": 1', "JSONDecodeError: "),
        ("[1, 2]", "TypeError: "),
        ("\x00\xff", "Error: "),
    ],
)
def test_a_damaged_json_is_a_failure_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "case.json"
    path.write_bytes(content.encode("latin-1"))
    outcome = run_case(path, Options())
    assert outcome.status == "FAILED"
    assert reason in str(outcome)
    assert "\n" not in str(outcome)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "pickled", "missing"])
def test_a_damaged_npz_is_a_failure(tmp_path, damage):
    path = copy("init_norm", tmp_path)
    file = path.with_suffix(".npz")
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[len(content) // 2] ^= 255
            file.write_bytes(content)
        case "emptied":
            file.write_bytes(b"")
        case "pickled":
            numpy.savez(file, params=numpy.array([{"any": "object"}], dtype=object))
        case "missing":
            file.unlink()
    assert run_case(path, Options()).status == "FAILED"


def test_close_names_the_worst_entry_and_refuses_nan_and_other_shapes():
    want = [[1.0, 2.0], [3.0, 1000.0]]
    assert close("x", [[1.0, 2.0], [3.0 + 9e-7, 1000.0]], want, 1e-9) == []
    [mismatch] = close("x", [[1.1, 2.0], [3.3, 1000.0]], want, 1e-9)
    assert mismatch.startswith("x[1][0]: got 3.3 want 3.0; 2 entries off")
    assert close("x", [[1.0, 2.0], [3.0, float("nan")]], want, 1e-9)[0].startswith("x[1][1]: got nan want 1000.0")
    assert close("x", [1.0], [float("nan")], 1e-9)
    assert close("x", [1.0, 2.0], want, 1e-9) == ["x: got shape (2,) want (2, 2)"]


def test_exact_names_the_first_difference():
    assert exact("x", numpy.array([1, 2]), [1, 2]) == []
    assert exact("x", [[1], [2, 3]], [[1], [2, 4]]) == ["x[1][1]: got 3 want 4"]
    assert exact("x", [[1], [2]], [[1], [2, 4]]) == ["x[1]: got 1 entries want 2"]


def test_a_row_is_only_excused_where_float32_cannot_tell_its_cut():
    third = 1 + 2**-30
    assert cut_is_lost(numpy.array([2.0, 1.0, third, 0.0]), 2)
    assert cut_is_lost(numpy.array([1e300, 1e200, 0.0]), 1)
    assert not cut_is_lost(numpy.array([2.0, 1.0, third, 0.0]), 1)
    assert not cut_is_lost(numpy.array([2.0, 1.0, 1.0, 0.0]), 2)
    assert not cut_is_lost(numpy.array([0.0, -0.0, -1.0]), 1)
    assert not cut_is_lost(numpy.array([2.0, 1.0]), 2)


def test_the_command_prints_a_line_per_case_and_counts(tmp_path):
    copy("bandit_default", tmp_path)
    copy("streams", tmp_path)
    (tmp_path / "broken.json").write_text("{")
    command = [sys.executable, "-m", "tests.golden", str(tmp_path), "--dtype", "float32"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parents[2])
    assert process.stderr == ""
    first, second, *rest = process.stdout.splitlines()
    assert first == "ok bandit_default"
    assert second.startswith("FAILED broken ")
    assert rest == ["ok streams", "2 passed, 1 failed, 0 skipped"]
    assert process.returncode == 1


def test_a_skipped_case_says_why_and_is_no_failure(tmp_path, monkeypatch, capsys):
    def excused(case, arrays, options):
        raise SkippedError("norm steps")

    copy("streams", tmp_path)
    monkeypatch.setattr(kinds, "find", lambda _: excused)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "skipped streams: norm steps\n0 passed, 0 failed, 1 skipped\n"


def test_an_executor_that_is_not_built_is_missing():
    assert missing("reference") is None
    assert missing("abacus") == "--executor: got abacus, which is not in this build"


@pytest.mark.parametrize(
    "arguments", [[], ["nowhere"], ["."], [".", "--dtype", "float16"], [".", "--executor", "abacus"]]
)
def test_a_call_that_cannot_run_anything_is_one_line_and_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(arguments, capsys)


def test_a_missing_executor_is_one_line_and_code_2(monkeypatch, capsys):
    monkeypatch.setattr("tests.golden.__main__.missing", lambda _: "--executor: got cuda, which is not in this build")
    assert "cuda" in assert_refused([str(DATA), "--executor", "cuda"], capsys)


def assert_refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    output = capsys.readouterr()
    assert stopped.value.code == 2
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    return output.err
