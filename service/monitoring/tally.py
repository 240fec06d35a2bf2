"""Counts over a sliding window, by kind."""

from collections import deque


class Tally:
    """Counts of each of `kinds` among the last `size`; adding takes constant time."""

    def __init__(self, kinds: int, size: int) -> None:
        self.counts = [0] * kinds
        self._size = size
        self._latest: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, kind: int) -> None:
        """Count one of this kind, numbered from 0; beyond `size`, the oldest is dropped."""
        if len(self._latest) == self._size:
            self.counts[self._latest.popleft()] -= 1
        self._latest.append(kind)
        self.counts[kind] += 1
