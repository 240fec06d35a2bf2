import sys
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.build.commands.refusals import refusal, with_data
from tests.build.conftest import flatten


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--weights", "nope.h5", "--weights nope.h5 is neither"),
        ("--labels", "nope.txt", "nope.txt can't be read"),
        ("--calibration", "nope", "nope can't be read: No such file or directory"),
        ("--evaluation", "nope", "nope can't be read: No such file or directory"),
        ("--recipes", "ptq4", "there is no recipe 'ptq4'; name one of dynamic, fp16, "),
        ("--out", "my bundle", "my bundle can't be a bundle's folder"),
        ("--out", "tests", "tests is a folder with other things in it"),
        ("--insert", "pyproject.toml", "pyproject.toml has no lines <!-- variants -->"),
    ],
)
def test_wrong_options_are_refused_before_the_work(
    arguments: dict[str, Path | str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    message: str,
) -> None:
    options = arguments | {option: value}
    assert refusal(capsys, "all", *(part for pair in options.items() for part in pair)).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--calibration",
        "--evaluation",
        "--data --calibration",
        "--data --evaluation",
        "--data --calibration --evaluation",
    ],
)
def test_all_takes_data_or_both_calibration_and_evaluation(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path, options: str
) -> None:
    folders = {
        "--data": tmp_path,
        **{name: arguments.pop(name) for name in ("--calibration", "--evaluation")},
    }
    chosen = {name: folders[name] for name in options.split()}
    error = refusal(capsys, "all", *flatten(arguments | chosen))
    assert error == "all takes --data, or both --calibration and --evaluation"
    assert list(tmp_path.iterdir()) == []


def test_data_without_any_epoch_is_refused(
    arguments: dict[str, Path | str],
    training_folder: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    error = refusal(capsys, "all", *flatten(with_data(arguments, training_folder)), "--epochs", "0")
    assert error == "--epochs 0 with --data would not learn the classes; set it to 1 or more"
    assert list(tmp_path.iterdir()) == []


def test_unlabelled_photos_are_refused_if_no_recipe_trains(
    arguments: dict[str, Path | str],
    training_folder: Path,
    calibration: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    options = flatten(
        with_data(arguments, training_folder) | {"--recipes": "fp32", "--unlabelled": calibration}
    )
    error = refusal(capsys, "all", *options)
    assert error == "--unlabelled would have no effect with --data because no recipe trains; leave that out"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data nope --label-weight 0", "--label-weight would have no effect with --data, "),
        ("--epochs 0 --learning-rate 1 --batch-size 4", "--batch-size and --learning-rate would have "),
        ("--epochs 0 --recipes fp32 ptq --seed 0", "--seed and --run would have no effect with --ep"),
    ],
)
def test_all_refuses_options_without_effect(
    arguments: dict[str, Path | str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: str,
    message: str,
) -> None:
    if "--data" in options:
        del arguments["--calibration"], arguments["--evaluation"]
    assert refusal(capsys, "all", *flatten(arguments), *options.split()).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--unlabelled", "--seed", "--run"])
def test_training_options_are_refused_if_no_recipe_trains(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    del arguments["--run"], arguments["--evaluation"]
    error = refusal(capsys, "quantize", *flatten(arguments), "--recipes", "fp32", "ptq", option, "1")
    assert error == f"{option} would have no effect because no recipe trains; leave that out"
    assert list(tmp_path.iterdir()) == []


def test_report_refuses_runs_with_devices(capsys: pytest.CaptureFixture[str]) -> None:
    error = refusal(capsys, "report", "--devices", "nope.json", "--runs", "10")
    assert error.startswith("--runs would have no effect with --devices, ")


def test_a_missing_module_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the module were missing, as TensorFlow is in the service's own environment.
    monkeypatch.setitem(sys.modules, "build.commands.dispatch", None)
    error = refusal(capsys, "evaluate", "models/imagenet-1k", "--evaluation", "tests")
    assert error == "build.commands.dispatch is missing; run it with `make build` or with .venv/bin/python"


def test_a_baseline_of_other_classes_is_refused(
    copy: Bundle, evaluation: Path, colours: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["evaluate", copy.path, "--evaluation", evaluation]
    error = refusal(capsys, *options, "--baseline", colours.path)
    assert error == f"{colours.path} can't be a baseline for {copy.path}: it has other classes"


def test_a_start_of_another_network_is_refused(
    small: Bundle, evaluation: Path, colours: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (small.path / "manifest.json").read_bytes()
    error = refusal(capsys, "evaluate", small.path, "--evaluation", evaluation, "--start", colours.path)
    assert "is not a float32 EfficientNetV2B0 of this build stage" in error
    assert (small.path / "manifest.json").read_bytes() == before


def test_a_start_that_training_did_not_start_from_is_refused(
    small: Bundle, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (small.path / "manifest.json").read_bytes()
    error = refusal(capsys, "evaluate", small.path, "--evaluation", evaluation, "--start", small.path)
    assert error == f"--start {small.path} is not what the training of {small.path} started from"
    assert (small.path / "manifest.json").read_bytes() == before
