"""The memory that images may take while they are decoded, of all workers together."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, TypeVar

Waiting = TypeVar("Waiting")

# An ordinary photo takes less: a JPEG of 12 megapixels 6 MB, where the limit is 256 MiB.
_SMALL = 1 / 16


class NoRoom(Exception):
    """An image of `size` bytes does not fit beside those that are decoded now, or others came before it."""

    def __init__(self, size: int) -> None:
        super().__init__(f"there is no room for {size} bytes now")
        self.size = size


class Memory(Protocol):
    """Where one image finds the memory to be decoded in: a `Room`, or what that `Granted` it before."""

    def hold(self, size: int) -> AbstractContextManager[None]:
        """Hold `size` bytes.

        Raises:
            NoRoom: they are not free.
        """
        ...


class Room(Generic[Waiting]):
    """Lets in as many large images at once as fit, in the order in which they came.

    Nobody sleeps here: whoever finds no room may put what it has in line, and goes on with something
    else; whoever is free asks for the next in line. What takes less than a sixteenth of the limit is
    always let in, and does not count: small images neither wait for large ones nor keep them waiting.
    """

    def __init__(self, limit: float) -> None:
        """`limit`: bytes of all large images together; one alone may be of any size."""
        self._limit = limit
        self._lock = threading.Lock()
        self._taken = 0
        self._line: deque[tuple[Waiting, int]] = deque()

    @property
    def waiting(self) -> int:
        """How many are in line."""
        return len(self._line)

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold `size` bytes.

        Raises:
            NoRoom: they are not free, or others are in line for them.
        """
        if size < self._limit * _SMALL:
            yield
            return
        with self._lock:
            if self._line or not self._fits(size):
                raise NoRoom(size)
            self._taken += size
        try:
            yield
        finally:
            self.give_back(size)

    def put_in_line(self, waiting: Waiting, size: int) -> None:
        """Have it wait for `size` bytes, behind all that do already."""
        with self._lock:
            self._line.append((waiting, size))

    def leave_line(self, waiting: Waiting) -> bool:
        """Wait no more, where it did; whether others may fit now because of that."""
        with self._lock:
            stay = [entry for entry in self._line if entry[0] is not waiting]
            left = len(stay) < len(self._line)
            self._line = deque(stay)
        return left and bool(stay)

    def next_in_line(self) -> tuple[Waiting, int] | None:
        """The first in line and its bytes, which it holds from now on; None where it does not fit."""
        if not self._line:
            return None
        with self._lock:
            if not self._line or not self._fits(self._line[0][1]):
                return None
            waiting, size = self._line.popleft()
            self._taken += size
        return waiting, size

    def give_back(self, size: int) -> None:
        """Hold `size` bytes less."""
        with self._lock:
            self._taken -= size

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._limit


class Granted:
    """The `size` bytes that an image in line got of `room`; it holds them until it is decoded."""

    def __init__(self, room: Room[Waiting], size: int) -> None:
        self._give_back = room.give_back
        self._size = size

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold what was granted, which is `size`, no longer than this."""
        try:
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Hold nothing any more, where that isn't so already."""
        size, self._size = self._size, 0
        self._give_back(size)
