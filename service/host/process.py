"""What the system reports about this process, None if it (macOS) does not; and the process's memory."""

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

_SELF = Path("/proc/self")
STANDARD_ERROR = 2
# For what the process itself has open, such as models, log and sockets, with room to spare.
_OWN_DESCRIPTORS = 64
# The values in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK_BYTES = 8 * 2**20


def seconds_since_start() -> float | None:
    """Return the seconds since the process was started, including the interpreter's own startup."""
    try:
        stat = (_SELF / "stat").read_text()
    except OSError:
        return None
    # The second field, the program's name in parentheses, can contain spaces; the start time is the 22nd.
    started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def resident_bytes() -> int | None:
    """Return the process's resident memory in bytes."""
    try:
        pages = (_SELF / "statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def give_back_memory() -> None:
    """Give freed memory back to the system: glibc keeps it for later, a whole model's worth."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # Another C library, which lacks it.
        return
    trim(ctypes.c_size_t(0))


def keep_little_memory() -> None:
    """Make glibc give back the memory of large images at once, not keep it in each thread for the next one.

    By default, glibc raises its thresholds when the first large block is freed, and then keeps all such
    blocks, up to 64 MiB per thread. The memory of ordinary photos is still kept: requesting it each time
    would cost as much as a tenth of their decoding.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:  # Another C library, which lacks it.
        return
    set_option(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    set_option(_M_TRIM_THRESHOLD, 2 * _LARGE_BLOCK_BYTES)


def open_standard_descriptors() -> None:
    """Open those that were closed at startup on /dev/null; otherwise sockets could get their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= STANDARD_ERROR:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    if sys.stderr is None:  # Python sets it to None if it was closed.
        sys.stderr = open(STANDARD_ERROR, "w", closefd=False)  # noqa: SIM115


def max_connections(wanted: int) -> int:
    """Return `wanted`, or the number of connections that the process may have descriptors for, if less."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(1, descriptors - _OWN_DESCRIPTORS))
