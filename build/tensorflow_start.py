"""TensorFlow's start, without what its libraries write then, which would bury the one line that matters."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.host.process import STANDARD_ERROR

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def starting_tensorflow() -> Iterator[None]:
    """What is imported within this may load TensorFlow, which finds its devices in the end.

    What is written to standard error meanwhile is shown only where it fails, or where the environment has a
    `TF_CPP_MIN_LOG_LEVEL` of its own: a process that a library ends has nothing else to say why.
    """
    if _LEVEL in os.environ:
        yield
        return
    os.environ[_LEVEL] = "2"
    with _held_back():
        yield
        import tensorflow as tf

        # Else it would look for them, and tell of it, at the first operation.
        tf.config.list_logical_devices()


@contextmanager
def _held_back() -> Iterator[None]:
    """By the descriptor, since the libraries are of C++."""
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
