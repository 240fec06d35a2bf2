"""`python -m build COMMAND`: turn a network into a bundle of TFLite variants.

Exit status: 0 on success, 2 if the command line or the data can't be used (one line on standard error says
why), 130 if interrupted, 143 if ended by SIGTERM. Training can be resumed after either of the last two.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from service.errors import StartError
from service.host.ending import INTERRUPTED, print_notice, refuse
from service.host.output import escape_unencodable, forgive_standard_error
from service.host.process import open_standard_descriptors

TERMINATED = 128 + signal.SIGTERM


class _Termination(KeyboardInterrupt):
    """SIGTERM, which ends a command as cleanly as an interruption from the keyboard."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status."""
    open_standard_descriptors()
    escape_unencodable()
    forgive_standard_error()
    try:
        _run(arguments)
    except StartError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(f"{error.name} is missing; run it with `make build` or with .venv/bin/python")
    except OSError as error:  # A file or folder that can't be read or written, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        return refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt as error:
        print_notice("; ".join(["interrupted", *getattr(error, "__notes__", ())]))
        return TERMINATED if isinstance(error, _Termination) else INTERRUPTED
    return 0


def _run(arguments: Sequence[str]) -> None:
    # Imported here because this takes time and needs packages: `main` reports an interruption or a missing
    # package without a traceback.
    _load_pydantic()
    from build.commands.dispatch import run
    from build.commands.options.parser import command_parser
    from build.files import command_line

    options = command_parser().parse_args(arguments)
    run(options, command_line(arguments))


def _load_pydantic() -> None:
    """Import pydantic with signals held back: a handler that raises would make its native module panic."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        import pydantic  # noqa: F401
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # A second one ends the process at once.
    raise _Termination


if __name__ == "__main__":
    # Also needed as the first process of a container, on which a signal has no effect by default.
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main(sys.argv[1:]))
