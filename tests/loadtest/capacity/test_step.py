import pytest

from loadtest.capacity.step import judge_step


@pytest.mark.parametrize(
    ("frames", "missed"),
    # In 20 s at 10/s two cameras are both there for 18.6 s, in which 186 frames are due.
    [(166, ("offered: 166 frames, of 200: FAILED",)), (169, ())],
)
def test_a_step_holds_only_if_nine_tenths_of_the_frames_due_were_sent(
    frames: int, missed: tuple[str, ...]
) -> None:
    report = {
        "slo": [],
        "latency_seconds": {"p99": 0.1},
        "rate": 1.0,
        "late_ratio": 0.0,
        "sent_late_p99_seconds": None,
        "counts": {"frames": frames},
        "accuracy": {},
    }
    assert judge_step("qat", 10, 2, 20, report).missed == missed
