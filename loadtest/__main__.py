"""`python -m loadtest [run | capacity]`.

Exit status: 0 if all goals were met; 1 if one was missed, or if the service started here exited (a line on
standard error says which); 2 if the test can't start; 130 if it was interrupted, with a report of the results
so far.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from types import FrameType

from loadtest.errors import LoadTestError, ServiceEnded
from loadtest.locusts import AT_ONCE, MOST_WAIT, QUIET, hangup, own_options, run_locust, run_test
from loadtest.options import add_options
from loadtest.report_folder import report_folder
from loadtest.service import serving
from loadtest.status import FAILED, INTERRUPTED, UNUSABLE

DEFAULT_USERS = 8
DEFAULT_SECONDS = 30


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    for number in (signal.SIGTERM, *hangup()):
        signal.signal(number, _interrupt)
    try:
        if arguments[:1] == ["capacity"]:
            from loadtest.capacity.command import capacity

            return capacity(arguments[1:])
        return run(arguments[1:] if arguments[:1] == ["run"] else arguments)
    except LoadTestError as error:
        sys.stderr.write(f"edgewise: {' '.join(str(error).splitlines())}\n")
        return FAILED if isinstance(error, ServiceEnded) else UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(arguments: Sequence[str]) -> int:
    """Run one load test and return the exit status.

    Other options are Locust's; the last value of a repeated option counts.
    """
    own = own_options()
    options, _ = _parser(own).parse_known_args(arguments)
    _, others = own.parse_known_args(arguments)
    if "--worker" in others:
        return run_locust([*QUIET, *others])
    local = serving(options.python, {}) if options.host is None else nullcontext(options.host)
    with report_folder(options.report, "loadtest") as folder, local as host:
        ends = [] if options.passes else ["--run-time", f"{DEFAULT_SECONDS}s"]
        users = ["--users", str(DEFAULT_USERS), *AT_ONCE]
        return run_test([*QUIET, *MOST_WAIT, "--host", host, *users, *ends, *others], folder)


def _parser(own: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        parents=[own],
        description="Load a service with photos as edge clients send them, and check it against goals."
        " Options not listed here are Locust's, such as Camera, --users (8), --run-time (30s),"
        " --processes, --master and --expect-workers. `capacity --help` describes the search for the highest"
        " rate.",
        allow_abbrev=False,
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
