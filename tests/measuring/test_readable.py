from pathlib import Path

from PIL import Image

from service.bundle.folder import Bundle
from service.images.pixels import DecodeLimits
from service.measuring.labelled import labelled_images
from service.measuring.readable import unreadable


def test_images_that_do_not_fit_side_by_side_are_decoded_one_after_another(
    colours: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "0.png").write_text("not an image")
    for number in range(1, 9):
        Image.new("RGB", (3000, 2000 + number)).save(tmp_path / "red" / f"{number}.png")
    images = labelled_images(tmp_path, colours.classes)
    room_for_one = DecodeLimits(max_decode_bytes=60_000_000)
    reasons = unreadable(images, colours.manifest.preprocessing, room_for_one, skip_corrupt=True)
    assert list(reasons) == [images[0].sha256]
