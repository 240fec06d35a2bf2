"""The stages of a classification: how long each took, for the answer, the log and the metrics."""

from collections.abc import Mapping

from service.inference.job import Answer


def stage_seconds(read: float, answer: Answer) -> dict[str, float]:
    """Return how long each stage of a classification took; `read`: receiving its body."""
    return {
        "read": read,
        "queue": answer.queue_seconds,
        "decode": answer.prediction.decode_seconds,
        "inference": answer.prediction.inference_seconds,
    }


def milliseconds(stages: Mapping[str, float]) -> dict[str, float]:
    """Return the same in milliseconds, rounded for people."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in stages.items()}
