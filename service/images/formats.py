"""Image formats, detected by content, never by a name or a declared type."""

import struct

_WEBP_CHUNK = 20


def sniff(data: bytes) -> str | None:
    """Return Pillow's name for the format, from the first bytes; None if it is unknown."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data.startswith(b"WEBP", 8):
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"ftyp", 4) and _brands(data) & {b"avif", b"avis"}:
        return "AVIF"
    return None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of a WebP's canvas from its first chunk; None if that is damaged."""
    kind = data[12:16]
    try:
        if kind == b"VP8X":
            sides = struct.unpack_from("<HBHB", data, _WEBP_CHUNK + 4)
            return 1 + sides[0] + (sides[1] << 16), 1 + sides[2] + (sides[3] << 16)
        if kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, _WEBP_CHUNK + 1)
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, _WEBP_CHUNK + 6)
            return width & 0x3FFF, height & 0x3FFF
    except struct.error:
        return None
    return None


def _brands(data: bytes) -> set[bytes]:
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[start : start + 4] for start in range(8, end, 4)}
