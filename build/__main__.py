"""`python -m build COMMAND`: turn a network into a bundle of TFLite variants.

Exit status: 0 when all is well, 2 when the command line or the data can't be used (one line on
standard error says why), 130 when interrupted; a training that was interrupted resumes.
"""

import sys
from collections.abc import Sequence

from build.files import command_line
from build.options import command_parser
from service.errors import StartError

UNUSABLE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    options = command_parser().parse_args(arguments)
    try:
        from build.commands import run

        run(options, command_line(arguments))
    except StartError as error:
        # A name in it, of a folder or a file, may have line ends.
        sys.stderr.write(f"edgewise: {' '.join(str(error).splitlines())}\n")
        return UNUSABLE
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"edgewise: {error.name} is missing; run it by `make build`, or as .venv/bin/python\n"
        )
        return UNUSABLE
    except OSError as error:  # A file or folder that can't be read or written, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"edgewise: {where}{error.strerror or error}\n")
        return UNUSABLE
    except KeyboardInterrupt:
        sys.stderr.write(
            "edgewise: interrupted; training goes on from its last checkpoint when started again\n"
        )
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
