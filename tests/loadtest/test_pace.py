from hypothesis import given
from hypothesis import strategies as st

from loadtest.pace import Pace, spread

PERIODS = st.floats(0.01, 10)


@given(first=st.floats(0, 1e6), period=PERIODS, frames=st.integers(1, 200))
def test_frames_are_due_at_a_fixed_rate(first: float, period: float, frames: int) -> None:
    pace = Pace(first, period)
    assert [pace.take() for _ in range(frames)] == [first + frame * period for frame in range(frames)]


@given(period=PERIODS, answers=st.lists(st.floats(0, 50), max_size=30))
def test_a_slow_answer_moves_no_frame_and_loses_none(period: float, answers: list[float]) -> None:
    # A camera with a service that takes so long for each answer, and now and then says to come later.
    pace, now, due, skipped = Pace(0, period), 0.0, [], 0
    for number, seconds in enumerate(answers):
        due.append(pace.take())
        now = max(now, due[-1]) + seconds
        if number % 3 == 2:
            skipped += pace.skip(now)
    end = pace.take()
    # What was taken and what was skipped are all the frames before the next one, each once.
    assert round(end / period) == len(due) + skipped
    assert due == sorted(set(due))
    assert all(abs(time / period - round(time / period)) < 1e-6 for time in due)


def test_what_is_due_while_backing_off_is_skipped() -> None:
    pace = Pace(10, 0.5)
    assert pace.take() == 10
    assert pace.skip(12) == 3
    assert pace.take() == 12
    assert pace.skip(12) == 0


def test_cameras_take_their_frames_apart() -> None:
    phases = sorted(spread(number) for number in range(20))
    gaps = [b - a for a, b in zip(phases, [*phases[1:], phases[0] + 1], strict=True)]
    assert min(gaps) > 0.3 / 20
