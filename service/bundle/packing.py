"""Unpacking a bundle's files, which are packed with Zstandard for fewer bytes on a slow link."""

import sys
from io import BytesIO
from pathlib import Path

from service.errors import BundleError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["unpack", "zstd"]

# RFC 8878 recommends that every decoder support this window; encoders use no larger one unless told to.
_LEAST_WINDOW_LOG = 23
# How many bytes are unpacked at a time, so that the content is in memory only once.
_CHUNK = 1 << 18
# No `.tflite` is larger: its offsets are signed 32-bit integers.
_MOST_BYTES = 2**31 - 1


def unpack(path: Path, size: int) -> bytes:
    """Return the `size` bytes that a file unpacks to.

    Whatever the file says, this takes memory only for that many bytes, and for a window of at most twice
    as many, or of 8 MiB if that is more.

    Raises:
        BundleError: it can't be read, is damaged, unpacks to more or fewer bytes, or there is no memory
            for them.
    """
    if size > _MOST_BYTES:
        raise _unusable(path, f"the manifest says {size} bytes, but a .tflite has at most {_MOST_BYTES}")
    window_log = max(_LEAST_WINDOW_LOG, size.bit_length())
    content = BytesIO()
    try:
        with zstd.ZstdFile(path, options={zstd.DecompressionParameter.window_log_max: window_log}) as file:
            # Reading one byte more than expected shows whether there are too many, or what else follows.
            while part := file.read(min(_CHUNK, size + 1 - content.tell())):
                content.write(part)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; copy the bundle again") from None
    except MemoryError:
        raise BundleError(
            f"{path} can't be unpacked: there is no memory for the {size} bytes that the manifest gives; use"
            " another variant"
        ) from None
    except EOFError:
        raise _unusable(path, "it ends before its Zstandard frame does") from None
    except zstd.ZstdError as error:
        raise _unusable(path, " ".join(str(error).split())) from None
    if content.tell() > size:
        raise _unusable(path, f"it holds more than the {size} bytes that the manifest gives")
    if content.tell() < size:
        raise _unusable(path, f"it holds {content.tell()} bytes, but the manifest says {size}")
    return content.getvalue()


def _unusable(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path} can't be unpacked: {reason}; build the bundle again")
