"""Wrong photos or a full disk end a command in one line and leave no partly written files."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from build.__main__ import main
from build.photos.data import sample
from service.bundle.folder import Bundle, load_bundle, verify
from tests.build.conftest import REPRESENTATIVE


@dataclass(frozen=True)
class Photos:
    """Folders of photos that a test may damage."""

    training: Path
    evaluation: Path


@pytest.fixture
def copied_photos(calibration: Path, evaluation: Path, tmp_path: Path) -> Photos:
    return Photos(
        Path(shutil.copytree(calibration, tmp_path / "photos" / "training")),
        Path(shutil.copytree(evaluation, tmp_path / "photos" / "evaluation")),
    )


@dataclass(frozen=True)
class Commands:
    """Commands with valid options; those that write files write them to `made`."""

    bundle: Bundle
    photos: Photos
    made: Path

    def line(self, command: str) -> list[str]:
        training, evaluation = self.photos.training, ("--evaluation", self.photos.evaluation)
        weights, out = ("--weights", self.bundle.path), ("--out", self.made / "bundle")
        rest: dict[str, tuple[str | Path, ...]] = {
            "all": (*weights, "--calibration", training, *evaluation, *out, "--run", self.made / "run"),
            "train": (*weights, "--data", training, "--epochs", "1", "--batch-size", "8", *out),
            "quantize": (*weights, "--calibration", training, *out),
            "evaluate": (self.bundle.path, *evaluation),
        }
        return [command, *map(str, rest[command])]


@pytest.fixture
def commands(copy: Bundle, copied_photos: Photos, tmp_path: Path) -> Commands:
    (tmp_path / "made").mkdir()
    return Commands(copy, copied_photos, tmp_path / "made")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def messages(stderr: str) -> list[str]:
    """The lines of standard error, without progress bars."""
    return [line for line in stderr.splitlines() if line and "%|" not in line]


def empty_class(photos: Photos) -> str:
    for folder in (photos.training, photos.evaluation):
        shutil.rmtree(folder / "flower")
        (folder / "flower").mkdir()
    return "/flower is empty; remove it, or put the images of its class there"


def text_file(photos: Photos) -> str:
    for folder in (photos.training, photos.evaluation):
        (folder / "cat" / "text.jpg").write_text("not an image")
    return "/cat/text.jpg: the bytes are not an image in a supported format"


def misspelt_label(photos: Photos) -> str:
    for folder in (photos.training, photos.evaluation):
        (folder / "coffee").rename(folder / "cofee")
    return (
        "/cofee is named after no class of the model: expected a label, optionally after a number"
        " (0_<label>), or an index; the nearest is 'coffee'"
    )


def evaluation_photo_in_training(photos: Photos) -> str:
    shutil.copy(photos.evaluation / "cat" / "0.jpg", photos.training / "temple" / "holiday.jpeg")
    return "1 images of evaluation are among those to train, calibrate or choose on, the first "


def calibration_photo_in_evaluation(photos: Photos) -> str:
    seen = sample(photos.training, REPRESENTATIVE).photos[0].path
    shutil.copy(seen, photos.evaluation / "temple" / "holiday.jpeg")
    return "1 of the 17 images are among those that the network was trained or calibrated on, the first "


def two_labels(photos: Photos) -> str:
    for folder in (photos.training, photos.evaluation):
        shutil.copy(folder / "cat" / "0.jpg", folder / "temple" / "copy.jpg")
    return "/temple/copy.jpg are the same image in the folders of two classes; take it out of the wrong one"


def line_end_in_a_name(photos: Photos) -> str:
    for folder in (photos.training, photos.evaluation):
        (folder / "cat" / "text\nedgewise: all is well.jpg").write_text("not an image")
    return "/cat/text edgewise: all is well.jpg: the bytes are not an image"


@pytest.mark.parametrize(
    ("command", "damage"),
    [
        ("all", empty_class),
        ("evaluate", empty_class),
        ("all", text_file),
        ("quantize", text_file),
        ("evaluate", text_file),
        ("train", misspelt_label),
        ("evaluate", misspelt_label),
        ("all", evaluation_photo_in_training),
        ("evaluate", calibration_photo_in_evaluation),
        ("train", two_labels),
        ("evaluate", two_labels),
        ("evaluate", line_end_in_a_name),
    ],
)
def test_wrong_photos_end_in_one_line_and_leave_no_files(
    commands: Commands, capsys: pytest.CaptureFixture[str], command: str, damage: Callable[[Photos], str]
) -> None:
    message = damage(commands.photos)
    before = content(commands.bundle.path)
    assert main(commands.line(command)) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    (line,) = messages(errors)
    assert line.startswith("edgewise: ")
    assert message in line
    assert list(commands.made.iterdir()) == []
    assert content(commands.bundle.path) == before
    assert [p.name for p in commands.bundle.path.parent.iterdir() if p.name.startswith(".")] == []


def test_skip_corrupt_leaves_damaged_photos_out_of_an_evaluation(
    commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    message = text_file(commands.photos)
    assert main([*commands.line("evaluate"), "--skip-corrupt"]) == 0
    (line,) = messages(capsys.readouterr().err)
    assert line.startswith("edgewise: 1 of 17 images can't be read and are left out, first ")
    assert message in line
    bundle = load_bundle(commands.bundle.path)
    verify(bundle)
    for variant in bundle.manifest.variants.values():
        assert [e.dataset.images for e in variant.evaluations] == [16]


def test_a_full_disk_leaves_no_partial_bundle(
    colour_models: Path,
    small_disk: Callable[[int], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, labels = colour_models / "ptq.tflite", tmp_path / "labels.txt"
    labels.write_text("black\nblue\ngreen\nred\nwhite\n")
    disk = small_disk(model.stat().st_size)
    line = ["import", model, "--labels", labels, "--output", "logits", "--out", disk / "bundle"]
    assert main([str(part) for part in line]) == 2
    assert messages(capsys.readouterr().err) == [
        f"edgewise: {disk / 'bundle'} can't be written: No space left on device"
    ]
    assert list(disk.iterdir()) == []


def test_a_full_disk_leaves_an_existing_bundle_unchanged(
    commands: Commands, small_disk: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(commands.bundle.path)
    disk = small_disk(sum(map(len, before.values())) * 4 // 3)
    path = Path(shutil.copytree(commands.bundle.path, disk / "bundle"))
    moved = replace(commands, bundle=replace(commands.bundle, path=path))
    assert main(moved.line("evaluate")) == 2
    assert messages(capsys.readouterr().err) == [
        f"edgewise: {path} can't be written: No space left on device"
    ]
    assert content(path) == before
    assert list(disk.iterdir()) == [path]


@pytest.fixture
def large_batches(tmp_path: Path) -> str:
    """A recipe that trains in batches larger than the number of photos."""
    recipe = tmp_path / "large.toml"
    recipe.write_text(
        'name = "large"\nweights = "int8-per-channel"\nactivations = "int8"\nrepresentative_images = 4\n'
        "[training]\nepochs = 1\nlearning_rate = 1e-5\nbatch_size = 1000\n"
    )
    return str(recipe)


def test_too_few_photos_for_a_recipe_are_refused_before_training(
    commands: Commands, large_batches: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*commands.line("all"), "--epochs", "1", "--batch-size", "8", "--recipes", large_batches]
    assert main([*line, "--baselines"]) == 2
    (error,) = messages(capsys.readouterr().err)
    assert "recipe large: " in error
    assert "photos are too few to train on in batches of 1000; leave it out, or name a recipe" in error
    assert list(commands.made.iterdir()) == []


def test_too_few_photos_for_a_recipe_are_refused_before_any_variant(
    commands: Commands, large_batches: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*commands.line("quantize"), "--recipes", "fp32", large_batches]) == 2
    error = capsys.readouterr().err
    assert "photos are too few to train on in batches of 1000" in error
    assert "variants:" not in error
