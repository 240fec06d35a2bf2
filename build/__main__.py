"""`python -m build COMMAND`: turn a network into a bundle of TFLite variants.

Exit status: 0 when all is well, 2 when the command line or the data can't be used (one line on
standard error says why), 130 when interrupted, 143 when ended by SIGTERM; a training resumes after both.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from service.errors import StartError
from service.host.ending import INTERRUPTED, refuse, tell
from service.host.output import escape_unencodable, forgive_standard_error
from service.host.process import open_standard_descriptors

TERMINATED = 128 + signal.SIGTERM


class _Termination(KeyboardInterrupt):
    """SIGTERM, which ends a command in as good an order as an interruption from the keyboard."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    open_standard_descriptors()
    escape_unencodable()
    forgive_standard_error()
    try:
        _run(arguments)
    except StartError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(f"{error.name} is missing; run it by `make build`, or as .venv/bin/python")
    except OSError as error:  # A file or folder that can't be read or written, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        return refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt as error:
        tell("; ".join(["interrupted", *getattr(error, "__notes__", ())]))
        return TERMINATED if isinstance(error, _Termination) else INTERRUPTED
    return 0


def _run(arguments: Sequence[str]) -> None:
    # Only now, as all that takes time or needs packages: an interruption meanwhile, or that they are missing,
    # is told without a traceback.
    from build.commands.dispatch import run
    from build.commands.options.parser import command_parser
    from build.files import command_line

    options = command_parser().parse_args(arguments)
    run(options, command_line(arguments))


def _terminate(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # A second one ends it at once.
    raise _Termination


if __name__ == "__main__":
    # The first process of a container, too, for which a signal has no effect by default.
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))
