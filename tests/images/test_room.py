import threading

from service.images.room import Room

LIMIT = 10


class Holder(threading.Thread):
    """Holds so many bytes until it is let go."""

    def __init__(self, room: Room, size: float) -> None:
        super().__init__(daemon=True)
        self._room, self._size = room, size
        self.inside, self.leave = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self._room.take(self._size, LIMIT):
            self.inside.set()
            self.leave.wait(60)

    def end(self) -> None:
        self.leave.set()
        self.join()


def is_kept_waiting(holder: Holder) -> bool:
    return not holder.inside.wait(0.1)


def test_those_that_fit_together_are_in_at_once() -> None:
    room = Room()
    holders = [Holder(room, size) for size in (5, 4, 1)]
    assert all(holder.inside.wait(60) for holder in holders)
    for holder in holders:
        holder.end()


def test_one_that_does_not_fit_waits_and_so_do_those_behind_it() -> None:
    room = Room()
    first = Holder(room, 6)
    assert first.inside.wait(60)
    large = Holder(room, 9)
    assert is_kept_waiting(large)
    small = Holder(room, 2)
    assert is_kept_waiting(small)
    first.end()
    assert large.inside.wait(60)
    assert is_kept_waiting(small)
    large.end()
    assert small.inside.wait(60)
    small.end()


def test_alone_any_size_is_in() -> None:
    room = Room()
    for _ in range(2):
        with room.take(11, LIMIT):
            pass


def test_what_fails_gives_its_room_back() -> None:
    room = Room()
    try:
        with room.take(LIMIT, LIMIT):
            raise ValueError
    except ValueError:
        pass
    next_ = Holder(room, LIMIT)
    assert next_.inside.wait(60)
    next_.end()
