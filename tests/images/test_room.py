import pytest

from service.images.room import NoRoom, Room

LIMIT = 160
SMALL = 9


class Count:
    """Counts how often it is called."""

    calls = 0

    def __call__(self) -> None:
        self.calls += 1


def is_refused(room: Room[str], size: int) -> bool:
    try:
        with room.hold(size):
            return False
    except NoRoom as error:
        return error.size == size


def test_those_that_fit_together_are_in_at_once() -> None:
    room = Room[str](LIMIT)
    with room.hold(100), room.hold(60):
        assert is_refused(room, 10)
        # It is as if this one were nowhere.
        with room.hold(SMALL), room.hold(SMALL):
            assert is_refused(room, 10)
    with room.hold(LIMIT):
        assert not is_refused(room, SMALL)
    assert not is_refused(room, LIMIT)


def test_alone_any_size_is_in() -> None:
    room = Room[str](LIMIT)
    for _ in range(2):
        with room.hold(LIMIT + 1):
            assert is_refused(room, 10)


def test_what_fails_gives_its_room_back() -> None:
    room = Room[str](LIMIT)
    with pytest.raises(ValueError, match="damaged"), room.hold(LIMIT):
        raise ValueError("damaged")
    assert not is_refused(room, LIMIT)


def test_those_in_line_come_in_order_and_before_others() -> None:
    room = Room[str](LIMIT)
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        assert room.waiting == 2
        # Both would fit, but pass the large one.
        assert room.next_in_line() is None
        assert is_refused(room, 20)
        assert not is_refused(room, SMALL)
    assert is_refused(room, 20)
    assert room.next_in_line() == ("large", 140)
    assert room.next_in_line() == ("other", 20)
    assert room.next_in_line() is None
    room.give_back(140)
    assert not is_refused(room, 140)
    assert is_refused(room, 141)


def test_who_leaves_the_line_lets_others_move_up() -> None:
    room, told = Room[str](LIMIT), Count()
    room.on_free = told
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        room.leave_line("nobody")
        assert told.calls == 0
        room.leave_line("large")
        assert told.calls == 1
        assert room.next_in_line() == ("other", 20)
        room.leave_line("other")
    assert told.calls == 1
    assert room.waiting == 0


def test_it_tells_whenever_the_first_in_line_may_fit() -> None:
    room, told = Room[str](LIMIT), Count()
    room.on_free = told
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        with room.hold(SMALL):
            pass
        assert told.calls == 0
    assert told.calls == 1
    assert room.next_in_line() == ("large", 140)
    assert told.calls == 2
    assert room.next_in_line() == ("other", 20)
    room.give_back(140)
    assert told.calls == 2
