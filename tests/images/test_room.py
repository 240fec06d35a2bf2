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


def test_images_that_fit_together_are_held_at_once() -> None:
    room = Room[str](LIMIT)
    with room.hold(100), room.hold(60):
        assert is_refused(room, 10)
        # Small ones take no room.
        with room.hold(SMALL), room.hold(SMALL):
            assert is_refused(room, 10)
    with room.hold(LIMIT):
        assert not is_refused(room, SMALL)
    assert not is_refused(room, LIMIT)


def test_an_image_of_any_size_is_held_alone() -> None:
    room = Room[str](LIMIT)
    for _ in range(2):
        with room.hold(LIMIT + 1):
            assert is_refused(room, 10)


def test_a_failure_gives_its_room_back() -> None:
    room = Room[str](LIMIT)
    with pytest.raises(ValueError, match="damaged"), room.hold(LIMIT):
        raise ValueError("damaged")
    assert not is_refused(room, LIMIT)


def test_waiting_images_come_in_order_and_before_others() -> None:
    room = Room[str](LIMIT)
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        assert room.waiting == 2
        # The small ones would fit, but would overtake the large one.
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


def test_leaving_the_line_lets_others_move_up() -> None:
    room, on_free = Room[str](LIMIT), Count()
    room.on_free = on_free
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        room.leave_line("nobody")
        assert on_free.calls == 0
        room.leave_line("large")
        assert on_free.calls == 1
        assert room.next_in_line() == ("other", 20)
        room.leave_line("other")
    assert on_free.calls == 1
    assert room.waiting == 0


def test_on_free_is_called_when_the_first_in_line_may_fit() -> None:
    room, on_free = Room[str](LIMIT), Count()
    room.on_free = on_free
    with room.hold(100):
        room.put_in_line("large", 140)
        room.put_in_line("other", 20)
        with room.hold(SMALL):
            pass
        assert on_free.calls == 0
    assert on_free.calls == 1
    assert room.next_in_line() == ("large", 140)
    assert on_free.calls == 2
    assert room.next_in_line() == ("other", 20)
    room.give_back(140)
    assert on_free.calls == 2
