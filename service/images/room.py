"""The memory for decoding images, shared by all workers."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, TypeVar

Waiting = TypeVar("Waiting")

# An ordinary photo takes less: a 12-megapixel JPEG 6 MB, with a limit of 256 MiB.
_SMALL = 1 / 16


class NoRoom(Exception):
    """An image that takes `size` bytes does not fit beside those being decoded, or others are in line."""

    def __init__(self, size: int) -> None:
        super().__init__(f"there is no room for {size} bytes now")
        self.size = size


class Memory(Protocol):
    """Where one image gets the memory to be decoded: from a `Room`, or from what it was `Granted` before."""

    def hold(self, size: int) -> AbstractContextManager[None]:
        """Hold `size` bytes.

        Raises:
            NoRoom: they are not free.
        """
        ...


class Room(Generic[Waiting]):
    """Admits as many large images at once as fit, in order of arrival.

    Nothing blocks here: a worker that finds no room can put its image in line and go on with something
    else, and a worker that is free asks for the next in line. An image that takes less than a sixteenth
    of the limit is always admitted and not counted, so small images neither wait for large ones nor
    delay them.
    """

    def __init__(self, limit: float) -> None:
        """`limit`: bytes of all large images together; a single one can be of any size."""
        # Called when the first in line may fit, without a lock held.
        self.on_free: Callable[[], None] = lambda: None
        self._limit = limit
        self._lock = threading.Lock()
        self._taken = 0
        self._line: deque[tuple[Waiting, int]] = deque()

    @property
    def waiting(self) -> int:
        """The number of images in line."""
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
        """Add `waiting` to the end of the line, for `size` bytes."""
        with self._lock:
            self._line.append((waiting, size))

    def leave_line(self, waiting: Waiting) -> None:
        """Remove `waiting` from the line, if it is there."""
        with self._lock:
            stay = [entry for entry in self._line if entry[0] is not waiting]
            left = len(stay) < len(self._line)
            self._line = deque(stay)
        if left and stay:
            self.on_free()

    def next_in_line(self) -> tuple[Waiting, int] | None:
        """Hold the bytes of the first in line and return both; None if there is none or it does not fit."""
        if not self._line:
            return None
        with self._lock:
            if not self._line or not self._fits(self._line[0][1]):
                return None
            waiting, size = self._line.popleft()
            self._taken += size
            others = bool(self._line)
        if others:
            self.on_free()
        return waiting, size

    def give_back(self, size: int) -> None:
        """Release `size` bytes."""
        with self._lock:
            self._taken -= size
            others = bool(self._line)
        if size and others:
            self.on_free()

    def _fits(self, size: int) -> bool:
        return not self._taken or self._taken + size <= self._limit


class Granted:
    """The `size` bytes of `room` that an image in line was granted; it holds them until it is decoded."""

    def __init__(self, room: Room[Waiting], size: int) -> None:
        self._give_back = room.give_back
        self._size = size

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold the granted bytes, which are `size`, until the block ends."""
        try:
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Release the granted bytes, unless that was done before."""
        size, self._size = self._size, 0
        self._give_back(size)
