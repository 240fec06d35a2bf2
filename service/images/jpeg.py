"""JPEG bytes → pixels, with libjpeg-turbo, refusing damaged data.

Pillow fills the missing part of a damaged scan with grey and reports nothing. libjpeg-turbo's strict
mode stops at the first warning instead, but it also warns about harmless things. Those are mended in
the header, so the second attempt is as strict as the first. An attempt that fails near the end costs
as much as a whole picture, so there is no second one if nothing was mended.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from service.errors import CorruptImage, RequestError, UnsupportedImage

_EOI, _SOS, _APP0, _APP1, _APP14 = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAME = 0xC2
_READABLE_FRAMES = {0xC0, 0xC1, _PROGRESSIVE_FRAME}
_MAX_SEGMENTS = 10_000
# Encoders write about ten, a patient optimizer a few dozen. The decoder goes over the whole picture for
# each, even for one of a few bytes that changes nothing.
_MAX_SCANS = 100
# Any number of fill bytes can precede a marker.
_MARKER = re.compile(rb"\xff[^\xff]")
# Within a scan's data, 0xFF is followed by zero or is part of a restart marker.
_MARKER_IN_SCANS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_MENDABLE = re.compile(r"extraneous bytes before marker|Unknown Adobe color transform|unknown JFIF revision")
# At the end marker nothing is left to decode: every scan was decoded without a warning.
_PADDED_END = re.compile(r"extraneous bytes before marker 0xd9")
_UNREADABLE = re.compile(r"Sorry|Unsupported")


@dataclass(frozen=True)
class Header:
    """What a JPEG's header says.

    `samples` is the number of samples of all components, after subsampling. `buffered`: the picture
    comes in more than one scan, so the decoder holds all of it as coefficients until the last scan.
    """

    width: int
    height: int
    components: int
    samples: int
    buffered: bool
    exif: bytes


@dataclass(frozen=True)
class _Segment:
    marker: int
    start: int
    end: int


def read_header(data: bytes) -> Header:
    """Read everything before the first scan.

    Raises:
        CorruptImage: the header is incomplete or contradicts itself, or there are more scans than
            any encoder writes.
        UnsupportedImage: the kind of JPEG is not supported, such as lossless or 12-bit.
    """
    exif, frame, scan = b"", None, None
    for segment in _segments(data):
        if segment.marker == _APP1 and data.startswith(b"Exif\x00\x00", segment.start + 4):
            exif = exif or data[segment.start + 4 : segment.end]
        elif segment.marker in _FRAMES:
            frame = frame or segment
        elif segment.marker == _SOS:
            scan = segment
    if frame is None or scan is None:
        raise CorruptImage("the JPEG ends before its picture begins")
    header = _read_frame(data, frame, scan, exif)
    # In other JPEGs the decoder reads only the first scan.
    if header.buffered and data.count(bytes((0xFF, _SOS)), scan.start) > _MAX_SCANS:
        # Other data can follow the picture, such as a video, so the scans are now counted one by one.
        _check_scans(data, scan.start)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except KeyError:  # simplejpeg has no name for its colour space.
        raise UnsupportedImage("this kind of JPEG is not supported") from None
    except ValueError as error:
        raise _refusal(error) from None
    if (width, height) != (header.width, header.height):
        raise CorruptImage("the JPEG's header contradicts itself")
    return header


def decode(data: bytes, header: Header, denominator: int) -> Image.Image:
    """Decode to mode RGB at 1/`denominator` (1, 2, 4 or 8) of the size, with each side rounded up.

    Raises:
        CorruptImage: the data is truncated or damaged.
        UnsupportedImage: the kind of JPEG is not supported.
    """
    try:
        if header.components != 4:
            return Image.fromarray(_decode(data, header, denominator, "RGB"))
        # Adobe's programs store inks inverted; like Pillow, assume that every file does.
        inks = np.invert(_decode(data, header, denominator, "CMYK"))
        size = inks.shape[1], inks.shape[0]
        return Image.frombuffer("CMYK", size, inks, "raw", "CMYK", 0, 1).convert("RGB")
    except ValueError as error:
        raise _refusal(error) from None


def _decode(data: bytes, header: Header, denominator: int, colorspace: str) -> NDArray[np.uint8]:
    try:
        return _decode_to_end(data, header, denominator, colorspace)
    except ValueError as error:
        if not _MENDABLE.search(str(error)):
            raise
        mended = _mended(data, header)
        if mended == data:  # It would fail at the same place again, which may be near the end.
            raise
    return _decode_to_end(mended, header, denominator, colorspace)


def _decode_to_end(data: bytes, header: Header, denominator: int, colorspace: str) -> NDArray[np.uint8]:
    """Decode strictly, but accept anything before the end marker."""
    try:
        return _decode_once(data, header, denominator, colorspace, strict=True)
    except ValueError as error:
        if not _PADDED_END.search(str(error)):
            raise
    return _decode_once(data, header, denominator, colorspace, strict=False)


def _decode_once(
    data: bytes, header: Header, denominator: int, colorspace: str, *, strict: bool
) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        colorspace,
        min_height=-(-header.height // denominator),
        min_width=-(-header.width // denominator),
        min_factor=denominator,
        strict=strict,
    )
    return pixels


def _refusal(error: ValueError) -> RequestError:
    message = str(error)
    if "remature end" in message:
        return CorruptImage("the JPEG is truncated: it ends within its picture")
    if "subsampling level" in message:
        # Pillow would read it, but it reads damaged data as well, and reports nothing.
        return UnsupportedImage("the JPEG has unusual chroma subsampling, which is not supported")
    if _UNREADABLE.search(message):
        return UnsupportedImage("this kind of JPEG is not supported")
    return CorruptImage("the JPEG's data is damaged")


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments up to the first scan's, skipping junk between them as libjpeg does."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            return
        start, position = found.span()
        marker = data[start + 1]
        if marker == _EOI:
            return
        if marker == 0 or marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            return
        position += length
        yield _Segment(marker, start, position)
        if marker == _SOS:
            return
    raise CorruptImage(f"the JPEG's header has more than {_MAX_SEGMENTS} segments")


def _check_scans(data: bytes, position: int) -> None:
    scans = 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER_IN_SCANS.search(data, position)
        if found is None or data[found.start() + 1] == _EOI:
            return
        position = found.end()
        marker = data[position - 1]
        scans += marker == _SOS
        if scans > _MAX_SCANS:
            break
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    raise CorruptImage(f"the JPEG has more than {_MAX_SCANS} scans")


def _read_frame(data: bytes, segment: _Segment, scan: _Segment, exif: bytes) -> Header:
    if segment.marker not in _READABLE_FRAMES:
        # If the data of an arithmetic-coded JPEG ends too early, the decoder pads it without a warning.
        raise UnsupportedImage(
            "the JPEG is lossless, hierarchical or arithmetic-coded, which is not supported"
        )
    try:
        bits, height, width, components = struct.unpack_from(">BHHB", data[: segment.end], segment.start + 4)
        factors = [data[segment.start + 11 + 3 * index] for index in range(components)]
    except (struct.error, IndexError):
        raise CorruptImage("the JPEG's header is damaged") from None
    if bits != 8 or components not in (1, 3, 4) or height == 0:
        raise UnsupportedImage(
            f"the JPEG has {components} components of {bits} bits and {height} rows;"
            " supported are 1, 3 or 4 components of 8 bits"
        )
    across, down = [factor >> 4 for factor in factors], [factor & 15 for factor in factors]
    if width == 0 or 0 in across or 0 in down:
        raise CorruptImage("the JPEG's header is damaged")
    samples = sum(
        -(-width * h // max(across)) * -(-height * v // max(down)) for h, v in zip(across, down, strict=True)
    )
    components_in_scan = int.from_bytes(data[scan.start + 4 : scan.start + 5], "big")
    buffered = segment.marker == _PROGRESSIVE_FRAME or components_in_scan < components
    return Header(width, height, components, samples, buffered, exif)


def _mended(data: bytes, header: Header) -> bytes:
    """Return the same picture without junk before its first scan and without odd version numbers."""
    parts, end = [data[:2]], 2
    for segment in _segments(data):
        part = bytearray(data[segment.start : segment.end])
        if segment.marker == _APP0 and part.startswith(b"JFIF\x00", 4):
            part[9:10] = b"\x01"
        elif segment.marker == _APP14 and part.startswith(b"Adobe", 4) and len(part) >= 16 and part[15] > 2:
            # libjpeg treats an unknown transform as YCbCr or YCCK.
            part[15] = 2 if header.components == 4 else 1
        parts.append(bytes(part))
        end = segment.end
    return b"".join([*parts, data[end:]])
