"""What the system knows of this process, None where the system (macOS) does not tell; and its memory."""

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

_SELF = Path("/proc/self")
STANDARD_ERROR = 2
# What the process itself has open: models, log, sockets; with room to spare.
_OWN_DESCRIPTORS = 64
# As glibc's malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK_BYTES = 8 * 2**20


def seconds_since_start() -> float | None:
    """Seconds since the process was started, the interpreter's own start included."""
    try:
        stat = (_SELF / "stat").read_text()
    except OSError:
        return None
    # The second field, the program's name in parentheses, may hold blanks; the start is the 22nd.
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def resident_bytes() -> int | None:
    """Bytes of memory that the process holds."""
    try:
        pages = (_SELF / "statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Give what was freed back to the system: glibc keeps it for later, a whole model's worth."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # Another C library: it does without.
        return
    trim(ctypes.c_size_t(0))


def keep_little_memory() -> None:
    """Have what large images took be given back at once, not kept by each thread for its next one.

    By itself glibc learns from the first large block that is freed to keep all such, up to 64 MiB a thread.
    What ordinary photos take, is kept: to ask for it each time costs as much as a tenth of their decoding.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # Another C library: it does without.
        return
    set_option(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    set_option(_M_TRIM_THRESHOLD, 2 * _LARGE_BLOCK_BYTES)


def open_standard_descriptors() -> None:
    """Have those that were closed at the start lead nowhere; else sockets, say, would get their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= STANDARD_ERROR:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    if sys.stderr is None:  # Python has none where it was closed.
        sys.stderr = open(STANDARD_ERROR, "w", closefd=False)  # noqa: SIM115


def max_connections(wanted: int) -> int:
    """As many connections as are wanted, or as the process may have descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(1, descriptors - _OWN_DESCRIPTORS))
