"""The true class, as clients name it."""

import re

from service.bundle.folder import Classes, composed
from service.errors import BadParameter

_DIGITS = re.compile("[0-9]+")
# As many digits as an index can need; int() is slow for very many.
_INDEX = re.compile("[0-9]{1,9}")


class Labels:
    """What a class can be called: its class id, its index, or a label that only this class has."""

    def __init__(self, classes: Classes) -> None:
        self._classes = len(classes.labels)
        self._class_ids = classes.class_ids or ()
        self._indices = classes.by_class_id()
        self._by_label = classes.by_label()

    def index(self, label: str | int) -> int:
        """Return the index of the class; a text that is both a class id and an index counts as the class id.

        A text of digits alone is no label: of the labels `1`, `2` and `3`, some are other classes' indices.

        Raises:
            BadParameter: there is no such class, or several have the label.
        """
        if isinstance(label, str):
            index = self._indices.get(composed(label))
            if index is not None:
                return index
        if _INDEX.fullmatch(str(label)) and int(label) < self._classes:
            return int(label)
        labelled = self._labelled(label)
        if len(labelled) == 1:
            return labelled[0]
        said = f"label is {str(label)[:64]!a}"
        if labelled:
            raise BadParameter(
                f"{said}, which {len(labelled)} classes share; name one by its {self._kinds()}:"
                f" {', '.join(map(self._named, labelled))}"
            )
        class_id = f" a class id such as {self._class_ids[0]}," if self._class_ids else ""
        raise BadParameter(
            f"{said}, but it should be a class index from 0 to {self._classes - 1},{class_id}"
            " or a label that only one class has"
        )

    def _labelled(self, label: str | int) -> list[int]:
        if isinstance(label, int) or _DIGITS.fullmatch(label):
            return []
        return self._by_label.get(composed(label), [])

    def _kinds(self) -> str:
        return "class id or index" if self._class_ids else "index"

    def _named(self, index: int) -> str:
        return f"{self._class_ids[index]} ({index})" if self._class_ids else str(index)
