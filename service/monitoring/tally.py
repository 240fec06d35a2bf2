"""Counting the latest of many, by kind."""

from collections import deque


class Tally:
    """How many of the last `size` fell into each of `kinds`; adding one takes the same time at any size."""

    def __init__(self, kinds: int, size: int) -> None:
        self.counts = [0] * kinds
        self._size = size
        self._latest: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, kind: int) -> None:
        """Count one of this kind, from 0; the oldest goes where there are more than `size`."""
        if len(self._latest) == self._size:
            self.counts[self._latest.popleft()] -= 1
        self._latest.append(kind)
        self.counts[kind] += 1
