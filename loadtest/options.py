"""The options of a load test, in addition to Locust's."""

import argparse
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from loadtest.corpus import DEFAULT_PHOTOS
from loadtest.errors import LoadTestError
from loadtest.slo import Slo

# Frames that are due faster than they can be counted would never end.
_MOST_FPS = 10_000
DEFAULT_SLO = Slo(p50=0.1, p99=0.5, errors=0, late=0.01)


@dataclass(frozen=True)
class Plan:
    """What a load test sends, and its goals.

    `query`, `headers`: of each request; `fps`: of each camera; `passes`: 0 for as long as the test runs.
    """

    photos: Path
    query: dict[str, str]
    headers: dict[str, str]
    model: str
    fps: float
    passes: int
    truths: bool
    slo: Slo


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `plan_of` reads."""
    parser.add_argument(
        "--photos",
        default=str(DEFAULT_PHOTOS),
        metavar="FOLDER",
        help="a folder with one folder per class, named by class id or label, or, if the bundle has no class"
        " ids, by label or index (default: three photos)",
    )
    parser.add_argument(
        "--crop",
        choices=("bundle", "none"),
        default="bundle",
        help="bundle: crop as the bundle says; none: use whole images (default: bundle)",
    )
    parser.add_argument(
        "--variant", default="", metavar="NAME", help="the variant to request (default: the active one)"
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="the service's EDGEWISE_MODEL_NAME (default: its bundle's name)",
    )
    parser.add_argument(
        "--fps", type=_rate, default=2.0, help="frames per second of each camera (default: 2)"
    )
    parser.add_argument(
        "--passes",
        type=_passes,
        default=0,
        metavar="N",
        help="end when each photo was answered N times, instead of --run-time; for one process only",
    )
    parser.add_argument(
        "--truths",
        choices=("send", "none"),
        default="send",
        help="whether to send labels to the service (default: send)",
    )
    parser.add_argument(
        "--api-key-file",
        default="",
        metavar="FILE",
        help="a file with an API key, if the service requires one",
    )
    parser.add_argument(
        "--report",
        default="",
        metavar="FOLDER",
        help="where to write the report (default: runs/loadtest-TIME)",
    )
    parser.add_argument(
        "--quiet-report", action="store_true", help="write the report, but print neither it nor progress"
    )
    slo = DEFAULT_SLO
    parser.add_argument(
        "--slo-p50",
        type=positive,
        default=1e3 * slo.p50,
        metavar="MS",
        help="median, at most (default: 100)",
    )
    parser.add_argument(
        "--slo-p99",
        type=positive,
        default=1e3 * slo.p99,
        metavar="MS",
        help="99th percentile, at most (default: 500)",
    )
    parser.add_argument(
        "--slo-errors",
        type=_ratio,
        default=slo.errors,
        metavar="RATIO",
        help="share of requests without an answer or a 429, at most (default: 0)",
    )
    parser.add_argument(
        "--slo-late",
        type=_ratio,
        default=slo.late,
        metavar="RATIO",
        help="share of frames late, refused or dropped, at most (default: 0.01)",
    )
    parser.add_argument(
        "--slo-top1",
        type=_ratio,
        default=slo.top1,
        metavar="RATIO",
        help="share of correct answers, at least (default: none)",
    )


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the options ask for.

    Raises:
        LoadTestError: an option has an unusable value, or two exclude each other.
    """
    several = options.processes or options.master or options.worker
    if options.passes and several:
        raise LoadTestError("--passes is for one process; leave out --processes, --master and --worker")
    # Locust accepts any whole number, and has its own default if none is given.
    for option, number in (("--users", options.num_users), ("--run-time", options.run_time)):
        if number is not None and number < 1:
            raise LoadTestError(f"{option} is {number}, but it should be 1 or more")
    return Plan(
        photos=Path(options.photos),
        query={name: value for name in ("crop", "variant") if (value := getattr(options, name))},
        headers=key_header(options.api_key_file),
        model=options.model,
        fps=options.fps,
        passes=options.passes,
        truths=options.truths == "send",
        slo=Slo(
            p50=options.slo_p50 / 1e3,
            p99=options.slo_p99 / 1e3,
            errors=options.slo_errors,
            late=options.slo_late,
            top1=options.slo_top1,
        ),
    )


def key_header(file: str) -> dict[str, str]:
    """Return the header with the key in a file; none if no file is named.

    Raises:
        LoadTestError: the file can't be read, or does not hold one key.
    """
    return {"X-API-Key": read_secret(file)} if file else {}


def read_secret(file: str | os.PathLike[str]) -> str:
    """Return the content of a file, to be sent in a header, without surrounding whitespace.

    Raises:
        LoadTestError: the file can't be read, or can't be sent in a header.
    """
    try:
        secret = Path(file).read_text().strip()
    except (OSError, ValueError) as error:
        raise LoadTestError(f"{file} can't be read: {getattr(error, 'strerror', error)}") from None
    if not re.fullmatch("[!-~]+", secret):
        raise LoadTestError(
            f"{file} should hold one key, of ASCII letters, digits and punctuation, and nothing else"
        )
    return secret


def _rate(text: str) -> float:
    number = positive(text)
    if number > _MOST_FPS:
        raise argparse.ArgumentTypeError(
            f"{text} is above the limit of {_MOST_FPS}; use more --users instead"
        )
    return number


def positive(text: str) -> float:
    """Parse a number above 0; the type of an option."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _ratio(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a ratio, from 0 to 1")
    return number


def _passes(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None
