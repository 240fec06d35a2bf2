import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydantic import TypeAdapter

from build.__main__ import main
from build.quantization.recipe import load_recipe
from build.quantization.sensitivity import Sensitivity
from build.quantization.sensitivity_report import sensitivity_table
from service.bundle.folder import Bundle, load_bundle, verify
from service.bundle.manifest import comparison_with
from service.bundle.reference import read_reference
from service.inference.classifier import Classifier
from tests.build.conftest import CLASSES, RECIPE, SIZE, flatten
from tests.system.processes import interrupted, run


def build(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m build` and wait for it."""
    return run(*arguments, module="build", seconds=1800)


def test_all_makes_a_bundle_and_a_report_from_weights_and_photos(
    weights_file: Path,
    labels_file: Path,
    training_folder: Path,
    evaluation: Path,
    recipe: Path,
    tmp_path: Path,
) -> None:
    bundle_path, run, readme = tmp_path / "shop", tmp_path / "run", tmp_path / "README.md"
    readme.write_text("<!-- variants -->\n<!-- /variants -->\n")
    result = build(
        "all",
        *("--weights", weights_file, "--labels", labels_file, "--size", str(SIZE)),
        *("--calibration", training_folder, "--evaluation", evaluation, "--out", bundle_path),
        *("--recipes", "fp32", recipe, "--epochs", "1", "--run", run, "--runs", "10", "--insert", readme),
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    bundle = load_bundle(bundle_path)
    verify(bundle)
    assert list(bundle.manifest.variants) == ["fp32", "mine"]
    assert bundle.manifest.default_variant == "mine"
    assert list(bundle.manifest.baselines) == ["naive", "start"]
    training = bundle.manifest.training
    assert training is not None
    assert (training.steps, training.images[0].images) == (7, 30 * len(CLASSES))
    assert training.command.startswith("python -m build all --weights ")
    for variant in bundle.manifest.variants.values():
        assert [e.dataset.images for e in variant.evaluations] == [4 * len(CLASSES)]
        assert variant.latency is not None
    (start,) = bundle.manifest.baselines["start"].evaluations
    comparison = comparison_with(start, "fp32")
    assert comparison is not None
    assert comparison.kl_nats > 0
    assert read_reference(bundle) is not None
    # The output ends with the table, the names of the files, and how to serve the bundle.
    *_, files, serving = result.stdout.splitlines()
    assert files == f"{bundle_path / 'README.md'} and {bundle_path / 'variants.png'}"
    assert serving == f"Serve it with EDGEWISE_BUNDLE={bundle_path} make serve"
    table = result.stdout[: result.stdout.index("\n\nBold:")]
    assert [row.split()[1] for row in table.splitlines()[2:]] == ["fp32", "**mine**", "*naive*", "*start*"]
    assert table in readme.read_text()
    assert table in (bundle_path / "README.md").read_text()
    with Image.open(bundle_path / "variants.png") as picture:
        assert picture.size == (1200, 540)
    # The trained weights stay in the run folder, for later commands.
    assert (run / "train" / "training.json").is_file()


def test_quantize_trains_for_the_recipes_that_train(
    arguments: dict[str, Path | str], training_folder: Path, evaluation: Path, recipe: Path, tmp_path: Path
) -> None:
    data, qat = tmp_path / "data", tmp_path / "trained.toml"
    shutil.copytree(training_folder / "cat", data / "train" / "cat")
    shutil.copytree(training_folder / "temple", data / "train" / "temple")
    shutil.copytree(evaluation, data / "test")
    qat.write_text(RECIPE.replace("mine", "trained") + "[training]\nepochs = 1\nlearning_rate = 1e-5\n")
    del arguments["--evaluation"]
    options = flatten(arguments | {"--calibration": data})
    recipes = [str(part) for part in (qat, recipe, "fp32")]
    assert main(["quantize", *map(str, options), "--recipes", *recipes, "--seed", "3"]) == 0
    bundle = load_bundle(tmp_path / "bundle")
    verify(bundle)
    # The last int8 variant is the default.
    assert list(bundle.manifest.variants) == ["trained", "mine", "fp32"]
    assert bundle.manifest.default_variant == "mine"
    trainings = {name: variant.provenance.training for name, variant in bundle.manifest.variants.items()}
    assert trainings["fp32"] is trainings["mine"] is None
    training = trainings["trained"]
    assert training is not None
    # The test split of a folder is not trained on.
    assert [(images.name, images.images) for images in training.images] == [("data", 60)]
    assert (training.seed, training.batch_size) == (3, 16)
    assert training.command.startswith("python -m build quantize --weights ")
    assert len(bundle.seen_images) == 60
    assert (tmp_path / "run" / "recipe-trained" / "checkpoints").is_dir()


def test_import_and_report_as_commands(colour_models: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("black\nblue\ngreen\nred\nwhite\n")
    path = tmp_path / "colours"
    arguments = ["--labels", labels, "--output", "logits", "--out", path]
    result = build("import", colour_models / "ptq.tflite", *arguments)
    assert (result.returncode, result.stdout) == (
        0,
        f"{path}: serve it with EDGEWISE_BUNDLE={path} make serve\n",
    )
    Classifier(load_bundle(path), "ptq")
    result = build("report", path, "--runs", "10")
    assert result.returncode == 0, result.stderr
    assert load_bundle(path).variant("ptq").latency is not None


def test_sensitivity_writes_a_table_a_picture_and_numbers(
    small: Bundle, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", small.path, "--calibration", calibration, "--images", "4"]
    command = ["sensitivity", *map(str, arguments), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    table, _, last = capsys.readouterr().out.strip().rpartition("\n")
    assert last == f"{tmp_path / 'out/sensitivity.png'} and {tmp_path / 'out/sensitivity.json'}"
    assert "on 4 photos of calibration; the ranges are from 44 others" in table
    with Image.open(tmp_path / "out" / "sensitivity.png") as picture:
        assert picture.format == "PNG"
    measured = TypeAdapter(Sensitivity).validate_json((tmp_path / "out" / "sensitivity.json").read_bytes())
    assert sensitivity_table(measured) == table.strip()
    assert (measured.network, measured.measured_on.images) == ("small", 4)
    losses = [*measured.kinds.values(), *measured.blocks.values(), measured.everything]
    assert len(losses) == 6 + 23 + 1
    assert all(0 < loss.kl_nats < 1 and loss.kl_error > 0 and loss.agreement <= 1 for loss in losses)
    assert measured.everything.kl_nats > 10 * measured.kinds["sigmoids"].kl_nats


def test_activations_compares_clipped_and_kept_large_values(
    small: Bundle, calibration: Path, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--weights", small.path, "--calibration", calibration, "--evaluation", evaluation]
    assert main(["activations", *map(str, photos), "--bits", "3", "3", "--large", "0", "0.03", "0"]) == 0
    head, _, *rows, _, note = capsys.readouterr().out.strip().splitlines()
    assert "| KL, nats | lost / won (p) | lost / won (p) to clipped |" in head
    settings = [[cell.strip() for cell in row.split("|")[1:4]] for row in rows]
    assert settings == [["3", "0", "none"], ["3", "3", "clipped"], ["3", "3", "kept"]]
    assert note.startswith("Simulated in float, on 16 photos of evaluation, crop bundle")


def test_activations_refuses_to_evaluate_on_calibration_photos(
    small: Bundle, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--weights", small.path, "--calibration", calibration, "--evaluation", calibration]
    assert main(["activations", *map(str, photos)]) == 2
    assert "48 images of calibration are among those to train, calibrate" in capsys.readouterr().err


def test_search_writes_a_recipe_for_a_size(
    small: Bundle, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = tmp_path / "tiny.toml", tmp_path / "bundle"
    photos = ["--weights", small.path, "--calibration", calibration]
    options = ["--images", "8", "--megabytes", "2.5", "--method", "uniform"]
    assert main(["search", *map(str, [*photos, *options]), "--out", str(recipe)]) == 0
    # The steps are for these weights, not for the default ones.
    hint = f"`quantize` or `add`, with the same weights and classes, and `--recipes {recipe}`"
    assert hint in capsys.readouterr().out
    searched_on = load_recipe(str(recipe)).searched_on
    assert len(searched_on) == 8
    assert main(["quantize", *map(str, photos), "--recipes", str(recipe), "--out", str(out)]) == 0
    bundle = load_bundle(out)
    assert 2_475_000 < bundle.variant("tiny").stored.bytes < 2_525_000
    assert searched_on <= bundle.seen_images
    verify(bundle)
    Classifier(bundle, "tiny")


def test_add_keeps_the_variants_of_a_bundle(
    measured: Bundle, calibration: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small"
    shutil.copytree(measured.path, path)
    command = ["add", path, "--calibration", calibration, "--recipes", recipe]
    assert main(list(map(str, command))) == 0
    assert "no longer has accuracy, baselines and latency: measure its variants" in capsys.readouterr().out
    bundle = load_bundle(path)
    verify(bundle)
    assert list(bundle.manifest.variants) == ["fp32", "ptq", "mine"]
    names = f"add small --calibration {calibration.name} --recipes {recipe.name}"
    assert bundle.variant("mine").provenance.command == f"python -m build {names}"
    assert bundle.variant("ptq").provenance == measured.variant("ptq").provenance
    assert bundle.manifest.training == measured.manifest.training


def test_a_given_licence_is_recorded_in_the_bundle(
    weights_file: Path, labels_file: Path, calibration: Path, tmp_path: Path
) -> None:
    network = ["--weights", weights_file, "--labels", labels_file, "--size", str(SIZE), "--licence", "MIT"]
    command = ["quantize", *network, "--calibration", calibration, "--recipes", "fp32"]
    assert main([*map(str, command), "--out", str(tmp_path / "mine")]) == 0
    assert load_bundle(tmp_path / "mine").manifest.licence == "MIT"


def test_a_wrong_input_ends_in_one_line(weights_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = build("quantize", "--weights", weights_file, "--calibration", tmp_path, "--out", out)
    assert result.returncode == 2
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("edgewise: ")]
    assert errors == result.stderr.splitlines()[-1:]
    assert errors == ["edgewise: the network has 4 classes; name them with --labels FILE, one per line"]
    assert not out.exists()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_no_files(
    number: signal.Signals, expected: int, small: Bundle, calibration: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "build", "quantize", "--weights", small.path]
    command += ["--calibration", calibration, "--out", tmp_path / "bundle"]
    status, stderr = interrupted(command, b"decode:", number)
    assert status == expected
    assert stderr.splitlines()[-1] == b"edgewise: interrupted"
    assert b"Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []
