import shutil
from pathlib import Path

import pytest

from build.network.weights import default_preprocessing
from build.photos.data import labelled_photos, unlabelled_photos
from build.photos.readable import readable
from service.bundle.folder import Classes
from service.errors import DatasetError
from tests.build.conftest import CLASSES, SIZE

PREPROCESSING = default_preprocessing(SIZE)


@pytest.fixture
def damaged(calibration: Path, tmp_path: Path) -> Path:
    """The calibration photos and five files that are no whole images, two of them with equal content."""
    folder = tmp_path / "damaged"
    shutil.copytree(calibration, folder)
    for name in ("cat/text.jpg", "coffee/text.jpg", "temple/a.png"):
        (folder / name).write_text(f"not an image: {name}")
    (folder / "temple" / "b.jpg").write_bytes((calibration / "temple" / "0.jpg").read_bytes()[:3000])
    shutil.copy(folder / "temple" / "b.jpg", folder / "temple" / "c.jpg")
    return folder


def test_readable_photos_are_returned_unchanged(
    calibration: Path, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [unlabelled_photos(calibration), unlabelled_photos(evaluation)]
    assert readable(sets, PREPROCESSING) == sets
    assert "edgewise" not in capsys.readouterr().err


def test_unreadable_images_are_counted_and_named(damaged: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        readable([unlabelled_photos(damaged)], PREPROCESSING)
    message = str(caught.value)
    assert message.startswith(
        f"4 of 52 images can't be read, first {damaged}/cat/text.jpg: the bytes are not an"
    )
    assert message.count("; ") == 2
    assert message.endswith(" (--skip-corrupt leaves them out)")


def test_unreadable_images_can_be_left_out(
    damaged: Path, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = Classes(CLASSES, None)
    sets = [labelled_photos(damaged, classes), unlabelled_photos(damaged), unlabelled_photos(evaluation)]
    labelled, unlabelled, untouched = readable(sets, PREPROCESSING, skip_corrupt=True)
    assert (labelled.name, len(labelled.photos)) == ("damaged", 12 * len(CLASSES))
    assert {photo.path for photo in labelled.photos} == {photo.path for photo in unlabelled.photos}
    assert untouched == sets[2]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgewise")]
    assert line.startswith(f"edgewise: 4 of 68 images can't be read and are left out, first {damaged}/cat/")


def test_a_class_without_readable_images_is_named(damaged: Path) -> None:
    shutil.rmtree(damaged / "cat")
    (damaged / "cat").mkdir()
    (damaged / "cat" / "text.jpg").write_text("not an image")
    photos = labelled_photos(damaged, Classes(CLASSES, None))
    with pytest.raises(
        DatasetError, match=r"none of the images in .*damaged/cat can be read, first .*text\.jpg: "
    ):
        readable([photos], PREPROCESSING, skip_corrupt=True)


def test_a_set_without_readable_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "text.jpg").write_text("not an image")
    with pytest.raises(DatasetError, match=r"none of the images in more can be read, first .*text\.jpg: "):
        readable([unlabelled_photos(tmp_path / "more")], PREPROCESSING, skip_corrupt=True)
