import threading
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from service.bundle.folder import Bundle
from service.host.cores import usable_cores
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


@dataclass
class Watched:
    """An image file that notes which threads ask for its path."""

    sha256: str
    file: Path
    threads: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        self.threads.add(threading.current_thread().name)
        return self.file


def test_no_more_images_are_decoded_at_once_than_there_are_cores(colours: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (1000, 1000)).save(tmp_path / "photo.png")
    images = [Watched(str(number), tmp_path / "photo.png") for number in range(50)]
    assert not unreadable(images, colours.manifest.preprocessing, skip_corrupt=False)
    assert 1 <= len(set[str]().union(*(image.threads for image in images))) <= usable_cores()
