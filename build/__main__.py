"""`python -m build COMMAND`: turn a network into a bundle of TFLite variants.

Exit status: 0 when all is well, 2 when the command line or the data can't be used (one line on
standard error says why), 130 when interrupted; a training that was interrupted resumes.
"""

import sys
from collections.abc import Sequence

from build.files import command_line
from build.options import command_parser
from service.errors import StartError
from service.host.ending import INTERRUPTED, refuse, tell
from service.host.output import escape_unencodable, forgive_standard_error
from service.host.process import open_standard_descriptors


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    open_standard_descriptors()
    escape_unencodable()
    forgive_standard_error()
    options = command_parser().parse_args(arguments)
    try:
        from build.commands import run

        run(options, command_line(arguments))
    except StartError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(f"{error.name} is missing; run it by `make build`, or as .venv/bin/python")
    except OSError as error:  # A file or folder that can't be read or written, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        return refuse(f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        tell("interrupted; training goes on from its last checkpoint when started again")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
