"""Pictures: the numbers in them, which there are, what is refused. How they look, only eyes can tell."""

import builtins
import math
from pathlib import Path

import numpy
import pytest

from fedlps.cli import main
from fedlps.errors import InputError
from fedlps.history import participations
from fedlps.report import curves
from fedlps.report.curves import Series
from fedlps.run.store import RunStore
from tests.report.made import accuracies, patterns
from tests.running import tiny

pytest.importorskip("matplotlib")

from fedlps.report.plot import Format, Picture, plot
from fedlps.report.plot_pattern import patterns as kept_of
from fedlps.report.plot_ratios import ratios

NONE = math.nan
START = {Format.PNG: b"\x89PNG", Format.SVG: b"<?xml", Format.PDF: b"%PDF"}


def lines_of(*directories: Path) -> list[Series]:
    return curves.series(curves.read(directories))


def files(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} if out.exists() else set()


def test_mean_and_spread_are_over_the_rounds_that_all_seeds_evaluated(tmp_path: Path) -> None:
    first = accuracies(tmp_path / "a", "seed=0", values=[10, 20, NONE, 40])
    second = accuracies(tmp_path / "b", "seed=1", values=[NONE, 24, 30, 50, 60])
    (line,) = lines_of(first, second)
    curve = curves.accuracy_curve(line, "round")
    assert curve.x.tolist() == [2, 4]
    assert curve.mean.tolist() == [22, 45]
    numpy.testing.assert_allclose(curve.deviation, [numpy.std([20, 24], ddof=1), numpy.std([40, 50], ddof=1)])


def test_over_what_differs_between_seeds_accuracy_is_interpolated(tmp_path: Path) -> None:
    first = accuracies(tmp_path / "a", "seed=0", values=[10, NONE, 30])
    second = accuracies(tmp_path / "b", "seed=1", values=[20, 30, 50, 60])
    (line,) = lines_of(first, second)
    curve = curves.accuracy_curve(line, "time_simulated")
    assert (curve.x[0], curve.x[-1]) == (100, 300)
    numpy.testing.assert_allclose(numpy.interp([100, 200, 300], curve.x, curve.mean), [15, 25, 40], atol=0.1)


def test_one_seed_keeps_its_points_and_has_no_spread(tmp_path: Path) -> None:
    (line,) = lines_of(accuracies(tmp_path / "a", values=[10, NONE, 30]))
    curve = curves.accuracy_curve(line, "flops_paper")
    assert curve.x.tolist() == [1e12, 3e12]
    assert curve.mean.tolist() == [10, 30]
    assert not curve.deviation.any()


def test_labels_say_what_differs(tmp_path: Path) -> None:
    runs = [
        accuracies(tmp_path / "a", "lr=0.3", "seed=1", values=[1]),
        accuracies(tmp_path / "b", "lr=0.3", "seed=2", "threads=1", values=[1]),
        accuracies(tmp_path / "c", "lr=0.1", values=[1]),
        accuracies(tmp_path / "d", "lr=0.3", "method.period=4", values=[1], method="fedavg"),
    ]
    got = lines_of(*runs)
    assert [line.label for line in got] == ["fedlps lr=0.3", "fedlps lr=0.1", "fedavg lr=0.3"]
    assert [len(line.runs) for line in got] == [2, 1, 1]


def test_of_a_seed_given_twice_the_longer_run_counts(tmp_path: Path) -> None:
    short, long = accuracies(tmp_path / "a", values=[1]), accuracies(tmp_path / "b", values=[1, 2])
    (line,) = lines_of(short, long, long)
    assert [run.directory for run in line.runs] == [long]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [("clients=7", "clients is 7, not 30"), ("model.name=mlp", "model.name"), ("split.shard_size=3", "split.shard_")],
)
def test_runs_of_different_presets_are_refused(tmp_path: Path, overrides: str, key: str) -> None:
    first, other = accuracies(tmp_path / "a", values=[1]), accuracies(tmp_path / "b", overrides, values=[1])
    with pytest.raises(InputError, match=r"b: is of another preset than .*a: ") as caught:
        list(plot([first, other], tmp_path / "plots"))
    assert key in str(caught.value)
    assert not files(tmp_path / "plots")


@pytest.mark.parametrize("values", [[], [NONE, NONE]])
def test_a_run_without_evaluation_is_named(tmp_path: Path, values: list[float]) -> None:
    one = accuracies(tmp_path / "one", values=[1])
    run = accuracies(tmp_path / "run", "seed=1", "evaluation.every=5", values=values)
    with pytest.raises(InputError, match=f"run: has no evaluation yet, .*: {len(values)} of 100 rounds are done"):
        list(plot([one, run], tmp_path / "plots"))
    assert not files(tmp_path / "plots")


def test_every_format_and_the_same_bytes_again(tmp_path: Path) -> None:
    run = patterns(tmp_path / "run", groups=(4, 300), clients=6)
    for out in ("one", "two"):
        written = list(plot([run], tmp_path / out, formats=list(Format)))
        assert len(written) == 9
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        content = path.read_bytes()
        assert content.startswith(START[Format(path.suffix[1:])])
        assert content == (tmp_path / "two" / path.name).read_bytes()
        assert str(tmp_path).encode() not in content


def test_axes_have_units(tmp_path: Path) -> None:
    run = patterns(tmp_path / "run", groups=(4,), clients=40)
    list(plot([run], tmp_path / "plots", formats=[Format.SVG]))
    texts = {path.stem: path.read_text() for path in (tmp_path / "plots").iterdir()}
    assert all(label in texts["accuracy"] for label in ("test accuracy (%)", "communication round", "(s)", "FLOP"))
    assert all(label in texts["pattern-run"] for label in ("clients, by capability", "4 units", "1/16"))
    assert all(label in texts["ratios-fedlps"] for label in ("ratio of units kept", "capability 1/2", "mean"))


def test_what_a_client_keeps_is_of_its_latest_counted_training(tmp_path: Path) -> None:
    run = patterns(tmp_path / "run", groups=(16, 5), clients=9)
    kept, capabilities, clients = kept_of(run)
    assert clients == 9
    assert [layer.shape for layer in kept] == [(9, 16), (9, 5)]
    assert (numpy.diff(capabilities) <= 0).all()
    assert (kept[0].sum(axis=1) <= numpy.maximum(1, 16 * capabilities)).all()
    with RunStore.read(run) as store:
        noted = participations(store)
        records = [store.get_client(client, "last") for client in range(9)]
    assert sorted(capabilities) == sorted(noted.capability.reshape(9, 3)[:, 1])  # the third was lost
    wanted = sorted(record["kept"][: record["counts"][0]].tolist() for record in records)
    assert sorted(numpy.flatnonzero(row).tolist() for row in kept[0]) == wanted


def test_of_many_clients_some_are_shown(tmp_path: Path) -> None:
    kept, capabilities, clients = kept_of(patterns(tmp_path / "run", groups=(4,), clients=450))
    assert (len(kept[0]), len(capabilities), clients) == (200, 200, 450)


def test_of_many_decisions_some_are_drawn_and_all_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines_of(patterns(tmp_path / "run", groups=(4,), clients=400, levels=1))
    whole = ratios(line)
    monkeypatch.setattr("fedlps.report.plot_ratios.DOTS", 150)
    some = ratios(line)
    (dots, mean, _), (fewer, same, _) = (picture.axes[0].get_lines() for picture in (whole, some))
    assert (len(dots.get_xdata()), len(fewer.get_xdata())) == (800, 150)
    numpy.testing.assert_array_equal(mean.get_xydata(), same.get_xydata())
    with RunStore.read(tmp_path / "run") as store:
        noted = participations(store)
    assert len(noted.ratio) == 1200
    assert set(map(tuple, fewer.get_xydata())) <= set(zip(noted.round, noted.ratio, strict=True))
    assert some.legends[0].get_title().get_text() == "fedlps (150 of up to 1200 rounds of clients shown)"


def test_a_real_run_has_all_pictures_and_is_only_read(tmp_path: Path) -> None:
    tiny(tmp_path / "run", {"rounds": 3})
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    written = list(plot([tmp_path / "run"], tmp_path / "plots"))
    assert files(tmp_path / "plots") == {"accuracy.png", "pattern-run.png", "ratios-fedlps.png"}
    assert written == [str(tmp_path / "plots" / name) for name in sorted(files(tmp_path / "plots"))]
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    with RunStore.read(tmp_path / "run") as store:
        noted = participations(store)
        means = [noted.ratio[noted.round == number].mean() for number in (1, 2, 3)]
        numpy.testing.assert_allclose(means, store.metrics()["ratio_mean"])


def test_a_run_is_drawn_while_it_is_written(tmp_path: Path) -> None:
    patterns(tmp_path / "run", groups=(4,), clients=6)
    with RunStore.open(tmp_path / "run") as store:
        store.add_metrics(2, {"test_last": 60.0, "flops_paper": 2.0, "time_simulated": 2.0})
        list(plot([tmp_path / "run"], tmp_path / "plots"))
        assert store.rounds == 2
    assert len(files(tmp_path / "plots")) == 3


def test_what_there_is_not_is_said_and_refused_only_if_asked_for(tmp_path: Path) -> None:
    run = accuracies(tmp_path / "run", values=[1, 2])
    first, *missing = plot([run], tmp_path / "plots")
    assert first.endswith("accuracy.png")
    assert [line.split(":")[0] for line in missing] == ["no pattern picture", "no ratios picture"]
    with pytest.raises(InputError, match="run: has no personal submodels"):
        list(plot([run], tmp_path / "plots", [Picture.PATTERN]))
    with pytest.raises(InputError, match="run: has no record of its clients' ratios"):
        list(plot([run], tmp_path / "plots", [Picture.RATIOS]))


def test_runs_of_one_name_get_files_of_their_own(tmp_path: Path) -> None:
    runs = [patterns(tmp_path / folder / "run", "seed=" + folder, groups=(4,), clients=6) for folder in "12"]
    list(plot(runs, tmp_path / "plots", [Picture.PATTERN]))
    assert files(tmp_path / "plots") == {"pattern-run.png", "pattern-run-2.png"}


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"matplotlib is not installed: pip install 'fedlps\[plot\]'"):
        list(plot([accuracies(tmp_path / "run", values=[1])], tmp_path / "plots"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DIR"),
        (["nowhere"], "nowhere: is no run"),
        (["run", "--picture", "acuracy"], 'got "acuracy", did you mean accuracy?'),
        (["run", "--format", "jpg"], '--format: got "jpg"'),
        (["run", "--out", "file"], "file: cannot be written"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    accuracies(tmp_path / "run", values=[1, 2])
    (tmp_path / "file").touch()
    before = set(tmp_path.rglob("*"))
    assert main(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    accuracies(tmp_path / "run", values=[1, 2])
    assert main(["plot", "run", "--picture", "accuracy", "--format", "svg", "--format", "png"]) == 0
    assert capsys.readouterr().out.splitlines() == ["plots/accuracy.svg", "plots/accuracy.png"]
