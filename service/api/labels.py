"""The true class, as clients name it."""

import re

from service.bundle.folder import Classes
from service.errors import BadParameter

# As many digits as an index can need; int() takes long for very many.
_INDEX = re.compile("[0-9]{1,9}")


class Labels:
    """What a class may be called: its index or its class id, not the text of its label, which may repeat."""

    def __init__(self, classes: Classes) -> None:
        self._classes = len(classes.labels)
        self._class_ids = classes.class_ids or ()
        self._indices = {class_id: index for index, class_id in enumerate(self._class_ids)}

    def index(self, label: str | int) -> int:
        """The index of the class; where a text is a class id and an index too, it is the class id.

        Raises:
            BadParameter: there is no such class.
        """
        if isinstance(label, str):
            index = self._indices.get(label)
            if index is not None:
                return index
        if _INDEX.fullmatch(str(label)) and int(label) < self._classes:
            return int(label)
        class_id = f", or a class id, such as {self._class_ids[0]}" if self._class_ids else ""
        raise BadParameter(
            f"label is {str(label)[:64]!a}, but it should be a class' index, from 0 to"
            f" {self._classes - 1}{class_id}; texts of labels are not taken, since they repeat"
        )
