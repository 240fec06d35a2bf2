"""What a search for the capacity makes of a step."""

from loadtest.capacity.step import Step, judge_step


def judged(rate: float, cameras: int, seconds: int, frames: int) -> Step:
    """A step without a missed goal, in which this many frames were sent."""
    report = {
        "slo": [],
        "latency_seconds": {"p99": 0.1},
        "rate": 1.0,
        "late_ratio": 0.0,
        "sent_late_p99_seconds": None,
        "counts": {"frames": frames},
        "accuracy": {},
    }
    return judge_step("qat", rate, cameras, seconds, report)
