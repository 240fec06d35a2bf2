"""Request bodies that arrive in pieces, at a rate that the test sets."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from service.api import arrivals
from service.api.arrivals import Arrivals
from service.errors import BodyTooLarge, QueueFull, SlowBody


class Sender:
    """A request whose body arrives as `send` is called."""

    def __init__(self, announced: int | None = None) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        headers = [] if announced is None else [(b"content-length", str(announced).encode())]
        self.request = Request({"type": "http", "headers": headers}, self._messages.get)
        self.arrived = bytearray()

    def send(self, data: bytes, *, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def disconnect(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})

    def read(self, by: Arrivals) -> asyncio.Task[None]:
        return asyncio.create_task(by.read(self.request, self.arrived.extend))


def bounded(**limits: float) -> Arrivals:
    return Arrivals(**{"max_bytes": 100, "total_bytes": 150, "min_rate": 1, "seconds": 60, **limits})


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_body_in_pieces_arrives_whole() -> None:
    async def test() -> None:
        sender = Sender()
        reading = sender.read(bounded())
        for piece in (b"one", b"two"):
            sender.send(piece)
        sender.send(b"three", more=False)
        await reading
        assert sender.arrived == b"onetwothree"
        assert sender.request.state.bytes_in == 11

    run(test)


@pytest.mark.parametrize("announced", [101, None])
def test_a_body_beyond_the_limit_is_refused(announced: int | None) -> None:
    async def test() -> None:
        sender = Sender(announced)
        sender.send(bytes(101))
        with pytest.raises(BodyTooLarge, match="the limit of 100 bytes"):
            await sender.read(bounded())
        assert not sender.arrived

    run(test)


def test_reading_stops_when_the_client_disconnects() -> None:
    async def test() -> None:
        sender = Sender()
        sender.disconnect()
        with pytest.raises(ClientDisconnect):
            await sender.read(bounded())

    run(test)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seconds": 0.1}, "it must arrive within 0.1 seconds"),
        ({"min_rate": 1000}, "1000 bytes a second or more"),
    ],
)
def test_a_slow_sender_is_cut_off(
    limits: dict[str, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "GRACE_SECONDS", 0.1)

    async def test() -> None:
        sender = Sender()
        sender.send(bytes(7))
        with pytest.raises(SlowBody, match=rf"7 bytes of the body arrived in \d+\.\d seconds; .*{message}"):
            await sender.read(bounded(**limits))
        assert sender.request.state.bytes_in == 7

    run(test)


def test_the_timeout_grows_with_the_bytes_received_up_to_a_limit() -> None:
    async def test() -> None:
        room, sender = bounded(min_rate=10, seconds=12), Sender()
        reading = sender.read(room)
        allowed = []
        for count in (0, 50, 30):
            sender.send(bytes(count))
            await settle()
            (arrival,) = room._arriving
            allowed.append(arrival.timeout.when() - arrival.started)
        assert allowed == pytest.approx([5, 10, 12])
        sender.send(b"", more=False)
        await reading

    run(test)


def test_the_slowest_body_is_dropped_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MIN_SECONDS", 0)

    async def test() -> None:
        room = bounded()
        slow, fast, new = Sender(), Sender(), Sender()
        reading = [sender.read(room) for sender in (slow, fast, new)]
        slow.send(bytes(40))
        fast.send(bytes(90))
        await asyncio.sleep(0.05)
        new.send(bytes(50), more=False)
        fast.send(bytes(5), more=False)
        with pytest.raises(QueueFull, match="together exceed the limit of 150 bytes") as caught:
            await reading[0]
        assert caught.value.retry_after_seconds == 1
        await reading[1]
        await reading[2]
        assert (len(fast.arrived), len(new.arrived)) == (95, 50)

    run(test)


def test_the_slowest_body_has_the_lowest_rate_not_the_fewest_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "MIN_SECONDS", 0)

    async def test() -> None:
        room = bounded()
        slow, fast, new = Sender(), Sender(), Sender()
        reading = [slow.read(room)]
        slow.send(bytes(60))
        await settle()
        (arrival,) = room._arriving
        arrival.started -= 50
        reading += [fast.read(room), new.read(room)]
        fast.send(bytes(40))
        await settle()
        new.send(bytes(60), more=False)
        fast.send(b"", more=False)
        with pytest.raises(QueueFull):
            await reading[0]
        await reading[1]
        await reading[2]
        assert (len(fast.arrived), len(new.arrived)) == (40, 60)

    run(test)


def test_the_slowest_body_is_dropped_if_it_needs_more_memory_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MIN_SECONDS", 0.02)

    async def test() -> None:
        room = bounded(total_bytes=100)
        slow, fast = Sender(), Sender()
        reading = [sender.read(room) for sender in (slow, fast)]
        slow.send(bytes(10))
        fast.send(bytes(80))
        await asyncio.sleep(0.05)
        slow.send(bytes(20))
        with pytest.raises(QueueFull):
            await reading[0]
        fast.send(bytes(20), more=False)
        await reading[1]
        assert len(fast.arrived) == 100

    run(test)


def test_a_body_that_does_not_fit_is_refused_if_no_other_is_slow() -> None:
    async def test() -> None:
        room = bounded()
        first, second = Sender(), Sender()
        reading = [first.read(room), second.read(room)]
        first.send(bytes(90))
        await settle()
        second.send(bytes(90))
        with pytest.raises(QueueFull):
            await reading[1]
        first.send(b"", more=False)
        await reading[0]
        # Their memory is free again.
        third = Sender()
        third.send(bytes(100), more=False)
        await third.read(room)

    run(test)


def test_a_dropped_body_takes_no_memory_for_pieces_that_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MIN_SECONDS", 0)

    async def test() -> None:
        room = bounded()
        slow, fast = Sender(), Sender()
        # The fast one has the slow one dropped while the slow one's next piece is there, but not read.
        reading = [fast.read(room), slow.read(room)]
        slow.send(bytes(60))
        fast.send(bytes(70))
        await asyncio.sleep(0.05)
        fast.send(bytes(25), more=False)
        slow.send(bytes(30))
        await settle()
        slow.send(bytes(5), more=False)
        with pytest.raises(QueueFull):
            await reading[1]
        await reading[0]
        assert len(slow.arrived) == 60
        others = [Sender(), Sender()]
        reading = [other.read(room) for other in others]
        for other in others:
            other.send(bytes(75))
        await settle()
        for other in others:
            other.send(b"", more=False)
        await asyncio.gather(*reading)

    run(test)


def test_a_body_that_times_out_just_then_does_not_harm_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MIN_SECONDS", 0)

    async def test() -> None:
        room = bounded()
        late, new = Sender(), Sender()
        reading = late.read(room)
        late.send(bytes(90))
        await settle()
        coming = new.read(room)
        await settle()
        # All in one turn of the loop: its time ends, and the other needs room before it has seen that.
        new.send(bytes(90), more=False)
        (arrival,) = [a for a in room._arriving if a.received == 90]
        arrival.timeout._on_timeout()
        await coming
        with pytest.raises(SlowBody):
            await reading
        assert len(new.arrived) == 90

    run(test)


@pytest.mark.parametrize("announced", [100, None])
def test_a_body_of_exactly_the_limit_is_taken(announced: int | None) -> None:
    async def test() -> None:
        sender = Sender(announced)
        sender.send(bytes(100), more=False)
        await sender.read(bounded())
        assert len(sender.arrived) == 100

    run(test)
