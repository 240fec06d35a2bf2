"""The names of a network's outputs: ImageNet's classes, or those in text files."""

from pathlib import Path

from build.errors import BuildError
from service.bundle.folder import Classes
from service.bundle.lines import lines_of

IMAGENET = Path(__file__).parents[1] / "imagenet"
IMAGENET_CLASSES = 1000


def read_classes(count: int, labels: Path | None, class_ids: Path | None) -> Classes:
    """Return labels and class ids from text files, or ImageNet's for 1,000 classes if no file is given.

    There may be one class id fewer than labels if the first label is a background class.

    Raises:
        BuildError: a file can't be read, does not have one line per class, or repeats a class id; or the
            classes are not 1,000, and no file names them.
    """
    if labels is None:
        if count != IMAGENET_CLASSES:
            raise BuildError(f"the network has {count} classes; name them with --labels FILE, one per line")
        labels, class_ids = IMAGENET / "labels.txt", class_ids or IMAGENET / "class_ids.txt"
    names = read_lines(labels)
    ids = None if class_ids is None else read_lines(class_ids)
    if ids is not None and len(ids) == len(names) - 1 and names[0].lower() == "background":
        ids = (names[0], *ids)
    for file, lines in ((labels, names), (class_ids, ids)):
        if lines is not None and len(lines) != count:
            raise BuildError(f"{file} has {len(lines)} lines, but the network has {count} classes")
    if ids is not None and len(set(ids)) < len(ids):
        raise BuildError(f"{class_ids} names {len(ids) - len(set(ids))} class ids twice")
    return Classes(names, ids)


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file, split as in a bundle.

    A byte order mark, which Windows writes before the first line, is not part of it.

    Raises:
        BuildError: the file can't be read, or is not in UTF-8.
    """
    try:
        return lines_of(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} can't be read: {error}") from None
