import shutil
from pathlib import Path

import pytest

from service.bundle.folder import SEEN_DIGITS, Bundle, sha256_of
from tests.build.commands.refusals import refusal, with_data
from tests.build.conftest import flatten


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
