import shutil
import sys
from pathlib import Path

import pytest

from build.__main__ import main
from build.evidence.report import split_at_markers
from service.bundle.folder import SEEN_DIGITS, Bundle, sha256_of
from service.errors import StartError
from tests.build.conftest import flatten
from tests.rights import as_an_ordinary_user


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that is refused; return its error, one line after progress bars and warnings."""
    assert main([str(argument) for argument in arguments]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith("edgewise: ")
    errors = [line for line in before if line.startswith(("edgewise: ", "Traceback"))]
    assert [line for line in errors if "representative photos, but there are" not in line] == []
    return last.removeprefix("edgewise: ")


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


def test_training_on_evaluation_photos_is_refused_before_the_work(
    arguments: dict[str, Path | str], evaluation: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = refusal(capsys, "all", *flatten(arguments), "--unlabelled", evaluation)
    assert error.startswith(
        "16 images of evaluation are among those to train, calibrate or choose on, the first"
    )
    assert list(tmp_path.iterdir()) == []


def test_evaluation_photos_that_the_weights_have_seen_are_refused(
    arguments: dict[str, Path | str],
    small: Bundle,
    calibration: Path,
    evaluation: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = arguments | {"--weights": small.path, "--calibration": evaluation, "--evaluation": calibration}
    error = refusal(capsys, "all", *flatten(changed))
    assert error.startswith(
        "16 images of calibration are among those that the weights or a recipe come from, the"
    )


def test_evaluation_photos_that_a_recipe_was_searched_on_are_refused(
    arguments: dict[str, Path | str], evaluation: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo = next(path for path in sorted(evaluation.rglob("*")) if path.is_file())
    recipe = tmp_path / "searched.toml"
    recipe.write_text(
        'name = "searched"\nweights = "int8-per-channel"\nactivations = "int8"\nranges = "least-error"\n'
        f'representative_images = 8\nweight_steps = {{ "*" = 0.1 }}\n'
        f'searched_on = ["{sha256_of(photo)[:SEEN_DIGITS]}"]\n'
    )
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", recipe)
    assert error.startswith(
        "1 images of evaluation are among those that the weights or a recipe come from, the"
    )
    assert not (tmp_path / "bundle").exists()


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


def with_data(arguments: dict[str, Path | str], data: Path) -> dict[str, Path | str]:
    """The options of `all` with `--data` in place of `--calibration` and `--evaluation`."""
    kept = {name: value for name, value in arguments.items() if name not in ("--calibration", "--evaluation")}
    return kept | {"--data": data}


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


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_photos_are_refused_as_unlabelled_photos(
    arguments: dict[str, Path | str],
    training_folder: Path,
    evaluation: Path,
    calibration: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    split: str,
) -> None:
    data = tmp_path / "data"
    for name, folder in (("train", training_folder), ("val", calibration), ("test", evaluation)):
        shutil.copytree(folder, data / name)
    other = Path(shutil.copytree(data / split / "cat", tmp_path / "other"))
    error = refusal(capsys, "all", *flatten(with_data(arguments, data)), "--unlabelled", other)
    assert f"images of data/{split} are among those to train, calibrate or choose on, the first " in error
    assert not (tmp_path / "run").exists()


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


def test_two_recipes_with_the_same_name_are_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", "fp32", "fp32")
    assert error == "2 recipes are named fp32; give each its own name"


@pytest.mark.parametrize(
    ("run", "out"), [("bundle", "bundle"), ("bundle/checkpoints", "bundle"), ("run", "run/recipe-qat")]
)
def test_checkpoints_and_bundle_inside_each_other_are_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path, run: str, out: str
) -> None:
    del arguments["--evaluation"]
    arguments |= {"--run": tmp_path / run, "--out": tmp_path / out}
    # There are no photos, so this must be refused before any is read.
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "quantize", *flatten(arguments), "--recipes", "fp32", "qat")
    assert error == (
        f"checkpoints would be in {tmp_path / run} and the bundle in {tmp_path / out}, but neither may be"
        " inside the other; choose another folder with --run"
    )
    assert not (tmp_path / "bundle").exists()


def test_a_link_to_itself_as_the_run_folder_is_refused(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    del arguments["--evaluation"]
    run = tmp_path / "loop"
    run.symlink_to(run)
    error = refusal(capsys, "quantize", *flatten(arguments | {"--run": run}), "--recipes", "fp32", "qat")
    assert str(run) in error


def test_a_recipe_for_another_network_is_refused_before_training(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "other.toml"
    recipe.write_text(
        'name = "other"\nweights = "int8-per-channel"\nactivations = "int8"\nranges = "least-error"\n'
        'representative_images = 100\nfloat_blocks = ["block9a"]\n'
    )
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", recipe)
    assert error.startswith("float_blocks has block9a, but the network has block1a, ")


def test_a_recipe_that_leaves_nothing_to_prune_is_refused_before_training(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "kept.toml"
    recipe.write_text(
        'name = "kept"\nweights = "int8-per-channel"\nactivations = "int8"\nrepresentative_images = 100\n'
        'weight_bits = { "block6*" = 4 }\npruning = { sparsity = 0.5, keep = ["block*"] }\n'
    )
    arguments["--calibration"] = tmp_path / "absent"
    error = refusal(capsys, "all", *flatten(arguments), "--recipes", recipe)
    assert error == "pruning: no layer is left to prune; give a grid to one that keep does not match"


def test_a_damaged_photo_is_refused_before_the_work(
    arguments: dict[str, Path | str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    del arguments["--run"], arguments["--evaluation"]
    error = refusal(capsys, "quantize", *flatten(arguments | {"--calibration": photos}))
    assert error.startswith(f"1 of 1 images can't be read, first {photos / 'cut.jpg'}: ")
    assert not (tmp_path / "bundle").exists()


def test_the_folder_of_another_run_is_refused_before_the_work(
    arguments: dict[str, Path | str],
    training_folder: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    options = [*flatten(with_data(arguments, training_folder)), "--recipes", "qat"]
    for name in ("train", "recipe-qat"):
        folder = tmp_path / "run" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text('{"schedule": {"epochs": 77}}')
        error = refusal(capsys, "all", *options)
        assert error.startswith(f"{folder} holds the checkpoints of a run with other options or photos")
        # Nothing was trained, and no list of photos was written.
        assert [path.name for path in (tmp_path / "run").rglob("*")] == [name, "run.json"]
        shutil.rmtree(tmp_path / "run")


def test_a_folder_that_can_not_be_written_is_named(
    arguments: dict[str, Path | str], labels_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del arguments["--run"], arguments["--evaluation"]
    data = arguments.pop("--calibration")
    changed = arguments | {"--data": data, "--epochs": "1", "--batch-size": "8", "--out": labels_file / "run"}
    assert refusal(capsys, "train", *flatten(changed)).startswith(f"{labels_file / 'run'}: Not a directory")


def test_checkpoints_are_not_mixed_into_a_bundle(
    arguments: dict[str, Path | str], copy: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(copy.path.iterdir())
    data = {"--data": arguments.pop("--calibration")}
    del arguments["--evaluation"]
    rest = {name: arguments[name] for name in ("--weights", "--labels", "--size")}
    expected = f"{copy.path} holds a bundle; choose another folder for checkpoints"
    assert refusal(capsys, "train", *flatten(rest | data | {"--out": copy.path})) == expected
    assert refusal(capsys, "all", *flatten(arguments | data | {"--run": copy.path})) == expected
    assert sorted(copy.path.iterdir()) == before


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


def test_sensitivity_is_not_measured_if_it_can_not_be_written(
    small: Bundle, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "out" / "sensitivity.png"
    picture.mkdir(parents=True)
    photos = ["--weights", small.path, "--calibration", calibration, "--images", "4"]
    assert main([*map(str, ("sensitivity", *photos)), "--out", str(picture.parent)]) == 2
    stderr = capsys.readouterr().err
    assert stderr.splitlines()[-1] == f"edgewise: {picture} can't be written: it is a folder"
    assert "sensitivity:" not in stderr


def test_a_read_only_file_for_the_table_is_refused(open_path: Path) -> None:
    file = open_path / "README.md"
    file.write_text("<!-- variants -->\n<!-- /variants -->\n")
    file.chmod(0o444)
    with as_an_ordinary_user(), pytest.raises(StartError, match=r"README.md can't be written by this user"):
        split_at_markers(file)
