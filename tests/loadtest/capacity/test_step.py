import pytest

from tests.loadtest.capacity.steps import judged


@pytest.mark.parametrize(
    ("frames", "missed"),
    # In 20 s at 10/s two cameras are both there for 18.6 s, in which 186 frames are due.
    [(166, ("offered: 166 frames, of 200: FAILED",)), (169, ())],
)
def test_a_step_holds_only_if_nine_tenths_of_the_frames_due_were_sent(
    frames: int, missed: tuple[str, ...]
) -> None:
    assert judged(10, 2, 20, frames).missed == missed
