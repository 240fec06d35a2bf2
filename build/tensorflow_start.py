"""Starting TensorFlow without the output of its libraries, which would bury the one line that matters."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.host.process import STANDARD_ERROR

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def starting_tensorflow() -> Iterator[None]:
    """Hold back standard error while modules that load TensorFlow are imported and it finds its devices.

    What was held back is shown if an import fails. If the environment sets `TF_CPP_MIN_LOG_LEVEL`, nothing is
    held back: set it if a library kills the process, because then nothing else says why.
    """
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "2"
    with _held_back():
        yield
        import tensorflow as tf

        # Otherwise it would look for them, and log that, at the first operation.
        tf.config.list_logical_devices()


@contextmanager
def _held_back() -> Iterator[None]:
    """Redirect the file descriptor: the libraries are written in C++, and bypass `sys.stderr`."""
    sys.stderr.flush()
    shown = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STANDARD_ERROR)
        try:
            yield
        except Exception:
            held.seek(0)
            with suppress(OSError):
                os.write(shown, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, STANDARD_ERROR)
            os.close(shown)
