"""Files that a bundle holds packed, by Zstandard: fewer bytes on a thin link."""

import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from service.errors import BundleError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Weights have values that are frequent, and hardly any that come again in the same order: what tells them
# apart best is a fast search for long repeats, which leaves all else to the frequencies. Zstandard's highest
# levels find many short ones: they are as good for weights of 8 bits or float ones, 7 % worse for few bits.
_LITERALS: Mapping[int, int] = {
    zstd.CompressionParameter.strategy: zstd.Strategy.dfast,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.hash_log: 10,
    zstd.CompressionParameter.chain_log: 10,
}
# What every decoder should have room for, RFC 8878 says; encoders take no more unless told to.
_LEAST_WINDOW_LOG = 23
# How much is unpacked at a time, so that the whole is in memory once.
_CHUNK = 1 << 18
# No `.tflite` is larger: its offsets are of 32 bits, with a sign.
_MOST_BYTES = 2**31 - 1


def pack(content: bytes) -> bytes:
    """Bytes as one frame of Zstandard, always the same of the same with one version of it."""
    return zstd.compress(content, options=_LITERALS)


def unpack(path: Path, size: int) -> bytes:
    """The `size` bytes that a file unpacks to.

    Takes memory for so many bytes and for a window of as many, or of 8 MiB if that is more: whatever the
    file says.

    Raises:
        BundleError: it can't be read, is damaged, unpacks to more or fewer bytes, or there is no memory
            for them.
    """
    if size > _MOST_BYTES:
        raise _unusable(path, f"the manifest says {size} bytes, a .tflite has {_MOST_BYTES} at most")
    window_log = max(_LEAST_WINDOW_LOG, size.bit_length())
    content = BytesIO()
    try:
        with zstd.ZstdFile(path, options={zstd.DecompressionParameter.window_log_max: window_log}) as file:
            # One more than there should be shows whether there are too many, or what else follows.
            while part := file.read(min(_CHUNK, size + 1 - content.tell())):
                content.write(part)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; copy the bundle again") from None
    except MemoryError:
        raise BundleError(
            f"{path} can't be unpacked: there is no memory for the {size} bytes that the manifest says; use"
            " another variant"
        ) from None
    except EOFError:
        raise _unusable(path, "it does not end where its frame does") from None
    except zstd.ZstdError as error:
        raise _unusable(path, " ".join(str(error).split())) from None
    if content.tell() > size:
        raise _unusable(path, f"it holds more than the {size} bytes that the manifest says")
    if content.tell() < size:
        raise _unusable(path, f"it holds {content.tell()} bytes, the manifest says {size}")
    return content.getvalue()


def _unusable(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path} can't be unpacked: {reason}; build the bundle again")
