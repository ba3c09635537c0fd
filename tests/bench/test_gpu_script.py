"""bench/gpu.sh: its times, what it survives, what stops it, with stages put in the place of its own; and its parts."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bench.gpu.preset import timed
from bench.gpu.slowest import function
from fedlps_kernels import launching

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "bench" / name for name in ("gpu.sh", "gpu/stages.sh", "gpu/build.sh")]
NINE_MINUTES = 540


def run(folder: Path, stages: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "stages.sh").write_text(stages)
    told = {**os.environ, "FEDLPS_GPU_STAGES": str(folder / "stages.sh")}
    command = ["bash", str(SCRIPTS[0]), *options, str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, env=told, timeout=60)


def results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]


def statuses(folder: Path) -> dict[str, str]:
    return {line["stage"]: line["status"] for line in results(folder) if "stage" in line}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_parses(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", str(script)], check=True, cwd=ROOT)


def test_its_stages_take_less_than_nine_minutes(tmp_path: Path) -> None:
    command = ["bash", str(SCRIPTS[0]), "--dry-run", str(tmp_path)]
    *stages, total = subprocess.run(command, capture_output=True, text=True, cwd="/").stdout.splitlines()
    seconds = [int(re.match(r"\S+ +(?:proof|sanitizer|measure) +(\d+) s  ", stage)[1]) for stage in stages]
    assert len(stages) == 13
    assert total == f"{sum(seconds) + len(seconds)} s at most"
    assert sum(seconds) + len(seconds) < NINE_MINUTES
    assert list(tmp_path.iterdir()) == []
    kinds = [stage.split()[1] for stage in stages]
    first = kinds.index("sanitizer")
    assert "proof" not in kinds[first:], "a proof behind what it lets pass"


def test_what_it_calls_is_there(tmp_path: Path) -> None:
    told = subprocess.run(["bash", str(SCRIPTS[0]), "--dry-run", "OUT"], capture_output=True, text=True).stdout
    for module in re.findall(r"-m (bench\S+)", told):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    for path in re.findall(r"(?<= )(?:tests|bench)/\S+", told):
        assert (ROOT / path).exists(), path


def test_a_failure_stops_no_other_stage(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
stage good proof 5 echo fine
stage broken measure 5 bash -c 'echo "{\\"a\\": 1}"; echo "no \\"such\\" \\\\ thing"; exit 3'
stage slow proof 1 sleep 30
stage absent sanitizer 5 no-such-tool
stage refused sanitizer 5 bash -c 'exit 1'
stage last measure 5 true
""",
    )
    assert statuses(tmp_path) == {
        "good": "ok",
        "broken": "FAILED",
        "slow": "out of time",
        "absent": "not here",
        "refused": "FAILED",
        "last": "ok",
    }
    assert {"a": 1} in results(tmp_path)
    assert next(line["last"] for line in results(tmp_path) if line.get("stage") == "broken") == 'no "such" \\ thing'
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("4 of 6 stages failed; results in ")
    assert (tmp_path / "out" / "good.log").read_text() == "fine\n"
    assert "stages failed" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize("wrong", ["proof 5 false", 'sanitizer 5 bash -c "exit $FOUND"'])
def test_a_wrong_result_stops_the_measurements(tmp_path: Path, wrong: str) -> None:
    done = run(
        tmp_path,
        f"""
stage before measure 5 true
stage tests {wrong}
stage golden proof 5 true
stage speed measure 5 touch "$OUT/measured"
""",
    )
    assert statuses(tmp_path) == {"before": "ok", "tests": "FAILED", "golden": "ok", "speed": "left out"}
    assert not (tmp_path / "out" / "measured").exists()
    assert "wrong result in: tests" in done.stdout
    assert done.returncode == 1


def test_a_good_run_and_a_second_into_the_same_folder(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(tmp_path, "stage only proof 5 true\n").returncode == 0
    assert statuses(tmp_path) == {"only": "ok"}
    assert len(results(tmp_path)) == 1


def test_a_stage_that_does_not_end_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    run(tmp_path, "stage deaf measure 1 bash -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n")
    assert statuses(tmp_path) == {"deaf": "out of time"}
    assert time.monotonic() - began < 20


def test_a_call_without_a_folder_is_refused() -> None:
    done = subprocess.run(["bash", str(SCRIPTS[0])], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "usage: bench/gpu.sh [--dry-run] OUT\n"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("contract", "contract"),
        ("void fedlps::update_lines<float>(fedlps::Model, int)", "update_lines"),
        ("void fedlps::(anonymous namespace)::select<double>(long)", "select"),
        ("(anonymous namespace)::clear(long, int*)", "clear"),
    ],
)
def test_kernels_are_named_as_ncu_names_them(name: str, wanted: str) -> None:
    assert function(name) == wanted


def test_a_preset_is_timed() -> None:
    found = timed("digits", "fp32", ["device=cpu", "rounds=1", "clients=4", "fraction=0.5", "epochs=1"])
    assert float(found["last round"]["train_loss"]) > 0
    assert found["seconds"] > 0


@pytest.mark.skipif(not launching.available(), reason="triton is not installed")
def test_a_step_is_counted() -> None:
    """TF32 packs weights a second time; every layer has its products."""
    from bench.launches import launches_of_a_step

    bf16, tf32 = launches_of_a_step("bf16"), launches_of_a_step("tf32")
    assert tf32 - bf16 == {"pack weights": 1}
    assert sum(name.startswith("forward") for name in bf16) == 9
    assert sum(name.startswith("input gradient") for name in bf16) == 8
