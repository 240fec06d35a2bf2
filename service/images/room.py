"""The memory that images may take while they are decoded, of all workers together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """Lets in as many images at once as fit, in the order in which they came."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._left = threading.Condition()
        self._taken = 0.0

    @contextmanager
    def take(self, size: float, limit: float) -> Iterator[None]:
        """Hold `size` bytes, once they are within `limit` with those that others hold; alone, any size is."""
        # One that waits keeps those behind it waiting, too: small ones would pass a large one for ever.
        with self._turn, self._left:
            self._left.wait_for(lambda: not self._taken or self._taken + size <= limit)
            self._taken += size
        try:
            yield
        finally:
            with self._left:
                self._taken -= size
                self._left.notify()
