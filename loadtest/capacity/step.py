"""One step of a search: a load test at one rate, and whether it counts as held."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A step in which the load test sent a smaller share of the frames due says nothing about the service.
_OFFERED = 0.9


@dataclass(frozen=True)
class Step:
    """One rate that was tried, in requests/s; `p99` in seconds; `missed`: a line for each goal missed.

    `sent_late_p99_seconds`: how late a frame was sent that had been waited for; None if there were none.
    """

    variant: str
    rate: float
    answered: float
    p99: float | None
    late_ratio: float
    sent_late_p99_seconds: float | None
    missed: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether all goals were met."""
        return not self.missed

    @property
    def line(self) -> str:
        """The result, for a person."""
        lag = self.sent_late_p99_seconds
        sent = "" if lag is None else f" (sent late p99 {1e3 * lag:.1f} ms)"
        return f"{self.variant}: {self.rate:.1f}/s: {'; '.join(self.missed) or 'held'}{sent}"


def judge_step(variant: str, rate: float, cameras: int, seconds: int, run_report: Mapping[str, Any]) -> Step:
    """Judge a load test of so many cameras that together send `rate` frames/s for `seconds`.

    `run_report`: the content of its report.json.
    """
    missed = [verdict["line"] for verdict in run_report["slo"] if not verdict["held"]]
    return Step(
        variant=variant,
        rate=rate,
        answered=run_report["rate"],
        p99=run_report["latency_seconds"]["p99"],
        late_ratio=run_report["late_ratio"],
        sent_late_p99_seconds=run_report["sent_late_p99_seconds"],
        missed=(
            *missed,
            *_unsent(rate, cameras, seconds, run_report),
            *_answered_by_others(variant, run_report),
        ),
    )


def _unsent(rate: float, cameras: int, seconds: int, run_report: Mapping[str, Any]) -> list[str]:
    frames, due = run_report["counts"]["frames"], round(rate * seconds)
    # Fewer frames are due while the cameras start, in the first second and two periods. The options'
    # parser refuses steps that end before.
    started = seconds - 1 - 2 * cameras / rate
    return [f"offered: {frames} frames, of {due}: FAILED"] if frames < _OFFERED * rate * started else []


def _answered_by_others(variant: str, run_report: Mapping[str, Any]) -> list[str]:
    # The variant for load may have answered, or someone switched: that is not this variant's capacity.
    others = {name: of["answers"] for name, of in run_report["accuracy"].items() if name != variant}
    if not others:
        return []
    answered = run_report["counts"]["answered"]
    return [f"variant: {sum(others.values())} of {answered} answers were by {', '.join(others)}: FAILED"]
