"""The stages of a classification: what each took, for the answer, the log and the metrics."""

from collections.abc import Mapping

from service.inference.job import Answer


def stage_seconds(read: float, answer: Answer) -> dict[str, float]:
    """What each stage of a classification took; `read`: the arrival of its body."""
    return {
        "read": read,
        "queue": answer.queue_seconds,
        "decode": answer.prediction.decode_seconds,
        "inference": answer.prediction.inference_seconds,
    }


def milliseconds(stages: Mapping[str, float]) -> dict[str, float]:
    """The same in milliseconds, for people."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in stages.items()}
