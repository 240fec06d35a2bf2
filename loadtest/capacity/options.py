"""The command line of a search."""

import argparse
import math
from collections.abc import Sequence

from loadtest.capacity.bisection import LEAST
from loadtest.errors import LoadTestError
from loadtest.locusts import own_options
from loadtest.options import add_options, positive

_DAY = 86_400
# More than any machine can send.
_MOST_RATE = 100_000
_CLIENTS = frozenset({"App", "Camera", "Inspector"})
_INSTEAD = {
    "--passes": "leave it out: the length of a step is --step-seconds",
    "--users": "use --start-rate and --fps",
    "--variant": "use --variants",
    "--run-time": "use --step-seconds",
    "--spawn-rate": "leave it out: all cameras of a step start at once",
    "--master": "each step ends its workers; use --processes",
    "--worker": "each step ends its workers; use --processes",
}


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the arguments among them that are for Locust.

    Raises:
        LoadTestError: one of them can't be used in a search.
    """
    own = _own_options()
    options, _ = _parser(own).parse_known_args(arguments)
    _, others = own.parse_known_args(arguments)
    for name in _CLIENTS.intersection(others):
        raise LoadTestError(f"{name} can't be chosen: a search for the capacity uses cameras only")
    _check_step(options)
    return options, others


def _check_step(options: argparse.Namespace) -> None:
    """Refuse steps so short that their cameras still start at the end, so that no rate could be judged."""
    # They start within the first second and two periods. Alone, a camera has the rate's own period; of
    # several, each has at most 4/3 of that of --fps, since their number is rounded.
    least = math.floor(1 + 2 * max(LEAST / options.start_rate, 4 / 3 / options.fps)) + 1
    if options.step_seconds < least:
        raise LoadTestError(
            f"--step-seconds is {options.step_seconds}, but with --fps {options.fps:g} and --start-rate"
            f" {options.start_rate:g} it should be {least} or more"
        )


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[own_options()])
    parser.add_argument(
        "--variants",
        type=_variants,
        default="fp32,ptq,qat",
        metavar="A,B",
        help="the variants to search (default: %(default)s)",
    )
    parser.add_argument("--admin-token-file", metavar="FILE", help="to switch the variant of --host")
    parser.add_argument(
        "--start-rate", type=_rate, default=16.0, help="requests/s to start with (default: 16)"
    )
    parser.add_argument("--step-seconds", type=_seconds, default=6, help="for each rate (default: 6)")
    return parser


def _variants(text: str) -> list[str]:
    names = list(dict.fromkeys(stripped for part in text.split(",") if (stripped := part.strip())))
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no variant")
    return names


def _rate(text: str) -> float:
    number = positive(text)
    if number > _MOST_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is above the limit of {_MOST_RATE}")
    return number


def _seconds(text: str) -> int:
    # Locust's run times are whole seconds.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_DAY)) else 0
    if not 1 <= number <= _DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_DAY}")
    return number


class _Refuse(argparse.Action):
    """Refuses an option of load tests that a search sets itself, from step to step."""

    def __call__(self, _parser: object, _options: object, _value: object, _typed: object = None) -> None:
        option = next(name for name in self.option_strings if name in _INSTEAD)
        raise LoadTestError(f"{option} can't be used in a search for the capacity: {_INSTEAD[option]}")


def _parser(own: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest capacity",
        # The refused options are added twice: by add_options, and below.
        conflict_handler="resolve",
        parents=[own],
        description="Find the highest rate at which a service meets all goals, for each variant. The load"
        " comes from cameras: frames are due at fixed times, however slow the service is. Other options are"
        " Locust's.",
        allow_abbrev=False,
    )
    add_options(parser)
    for names in (
        ["--passes"],
        ["--variant"],
        ["--users", "-u"],
        ["--run-time", "-t"],
        ["--spawn-rate", "-r"],
    ):
        parser.add_argument(*names, action=_Refuse, help=argparse.SUPPRESS)
    for name in ("--master", "--worker"):
        parser.add_argument(name, action=_Refuse, nargs=0, help=argparse.SUPPRESS)
    return parser
