"""The ingest contract: image bytes → uint8[height, width, 3], the same way on every route.

- JPEG, PNG, WebP, BMP, GIF and AVIF are detected by content. Of an animation, the first frame is used,
  but an AVIF must be a still image.
- Before anything is decoded, the size in the header is checked, and so is the memory that decoding would
  take, alone and together with the other images being decoded.
- EXIF orientation is applied; in a PNG, only that of its eXIf chunk. In an AVIF it is ignored, as
  MIAF (ISO/IEC 23000-22) requires, and the properties irot and imir are applied.
- Grey, palette, CMYK and 16-bit images become RGB. Transparency is blended with white, but a BMP's alpha is
  ignored if it is zero everywhere. What the frame of a GIF leaves free of its canvas is transparent.
- If the bundle says so, a JPEG is decoded at the smallest of the scales 1/1, 1/2, 1/4 and 1/8 that leaves
  both sides at least twice the model's.
- Truncated or damaged data is refused, never filled in.
"""

import math
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, WebPImagePlugin, features  # noqa: F401 (plugins register themselves)

from service.bundle.manifest import Preprocessing, Resize
from service.errors import CorruptImage, ImageTooLarge, RequestError, UnsupportedImage
from service.images import avif, bmp, gif, jpeg, png
from service.images.exif import orientation
from service.images.formats import sniff, webp_size
from service.images.room import Memory, NoRoom

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", *(("AVIF",) if features.check("avif") else ()))

# Longer sides are refused: resizing takes memory in proportion to a side, however short the other is.
MAX_SIDE = 65_535

# Otherwise the first WebP would make Pillow import the plugins of all its formats.
Image.preinit()
# DecodeLimits replaces Pillow's limit, which is process-wide and only warns up to twice its value.
Image.MAX_IMAGE_PIXELS = None
# Pillow would warn on standard error about each broken EXIF tag, while the worker waits.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# One thread per photo: more threads for one AVIF would take the other workers' cores.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_DENOMINATORS = (8, 4, 2)
# The measured peak of decoding, converting to RGB and turning upright, for the costliest mode of
# each format: palette, grey and alpha take a second or third copy.
_BYTES_PER_PIXEL = {"PNG": 12, "WEBP": 17, "BMP": 12, "GIF": 12, "AVIF": 17}
_BYTES_PER_RGB_PIXEL = 8
# For what an AVIF codes beyond its picture and transparency: highest bit depth, no chroma subsampling.
_BYTES_PER_HIDDEN_PIXEL = 6
# A JPEG with several scans, such as a progressive one, is held as coefficients at full size,
# whatever the scale.
_BYTES_PER_COEFFICIENT = 2

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Called once, before anything is decoded, with the bytes that decoding takes; can raise NoRoom.
_Take = Callable[[int], None]


class Crop(StrEnum):
    """The part of an image that the model sees: the bundle's crop, or all of it, squashed to its size."""

    BUNDLE = "bundle"
    NONE = "none"


@dataclass(frozen=True)
class DecodeLimits:
    """The most that one image can have: pixels in its header, bytes of memory to decode it."""

    max_pixels: int = 50_000_000
    max_decode_bytes: int = 256 * 2**20


DEFAULT_LIMITS = DecodeLimits()


def load_pixels(
    data: bytes,
    preprocessing: Preprocessing,
    crop: Crop = Crop.BUNDLE,
    limits: DecodeLimits = DEFAULT_LIMITS,
    room: Memory | None = None,
) -> NDArray[np.uint8]:
    """Decode image bytes to the model's pixels, uint8[height, width, 3] in RGB.

    `room` is the memory shared with the other images being decoded.

    Raises:
        NoRoom: there is not enough left in `room`; nothing was decoded.
        UnsupportedImage: the bytes are not in a supported format.
        CorruptImage: they are truncated or damaged.
        ImageTooLarge: the image exceeds `limits`.
    """
    with ExitStack() as held:

        def take(size: int) -> None:
            if room is not None:
                held.enter_context(room.hold(size))

        return fit(_decode(data, preprocessing, limits, take), preprocessing, crop)


def decode(data: bytes, preprocessing: Preprocessing, limits: DecodeLimits = DEFAULT_LIMITS) -> Image.Image:
    """Decode image bytes to an upright image of mode RGB; a JPEG can be scaled down.

    Raises:
        UnsupportedImage: the bytes are not in a supported format.
        CorruptImage: they are truncated or damaged.
        ImageTooLarge: the image exceeds `limits`.
    """
    return _decode(data, preprocessing, limits, lambda _: None)


def _decode(data: bytes, preprocessing: Preprocessing, limits: DecodeLimits, take: _Take) -> Image.Image:
    """Do what `decode` does, after telling `take` how many bytes decoding takes."""
    format_ = sniff(data)
    if format_ is None or format_ not in FORMATS:
        raise UnsupportedImage(f"the bytes are not an image in a supported format: {', '.join(FORMATS)}")
    try:
        if format_ == "JPEG":
            return _decode_jpeg(data, preprocessing, limits, take)
        return _decode_by_pillow(data, format_, limits, take)
    except MemoryError:
        raise ImageTooLarge("there is not enough memory to decode the image") from None


def fit(image: Image.Image, preprocessing: Preprocessing, crop: Crop = Crop.BUNDLE) -> NDArray[np.uint8]:
    """Fit an RGB image of any size to the model: return its pixels, uint8[height, width, 3].

    With `shorter-side`, the model sees the largest centred rectangle of its own shape, scaled by
    `crop_fraction`. The rectangle is resized in one step, even if its edges lie at fractions of a
    pixel. With `squash`, or `Crop.NONE`, the model sees the whole image.
    """
    size = (preprocessing.width, preprocessing.height)
    box = None
    if preprocessing.resize is Resize.SHORTER_SIDE and crop is Crop.BUNDLE:
        scale = preprocessing.crop_fraction * min(image.width / size[0], image.height / size[1])
        # Rounding can make the box slightly larger than the image, which Pillow refuses.
        left, top = (
            max(0.0, (image.width - scale * size[0]) / 2),
            max(0.0, (image.height - scale * size[1]) / 2),
        )
        box = (left, top, image.width - left, image.height - top)
    return np.asarray(image.resize(size, Image.Resampling[preprocessing.filter.name], box))


def _decode_jpeg(data: bytes, preprocessing: Preprocessing, limits: DecodeLimits, take: _Take) -> Image.Image:
    header = jpeg.read_header(data)
    turned = orientation(header.exif)
    denominator = _denominator(header, turned, preprocessing)
    bytes_per_pixel = _BYTES_PER_RGB_PIXEL / denominator**2
    if header.buffered:
        bytes_per_pixel += _BYTES_PER_COEFFICIENT * header.samples / (header.width * header.height)
    take(_checked_bytes((header.width, header.height), bytes_per_pixel, limits))
    return _upright(jpeg.decode(data, header, denominator), turned)


def _denominator(header: jpeg.Header, turned: int, preprocessing: Preprocessing) -> int:
    if not preprocessing.jpeg_dct_scaling:
        return 1
    width, height = 2 * preprocessing.width, 2 * preprocessing.height
    if turned >= 5:  # These orientations swap width and height.
        width, height = height, width
    for denominator in _DENOMINATORS:
        if -(-header.width // denominator) >= width and -(-header.height // denominator) >= height:
            return denominator
    return 1


def _decode_by_pillow(data: bytes, format_: str, limits: DecodeLimits, take: _Take) -> Image.Image:
    # Turned only when the decoder's own copies of the image are gone.
    return _upright(*_rgb_and_orientation(data, format_, limits, take))


def _rgb_and_orientation(
    data: bytes, format_: str, limits: DecodeLimits, take: _Take
) -> tuple[Image.Image, int]:
    damaged = CorruptImage(f"the {format_} data is truncated or damaged")
    data = _prepared(data, format_, limits)
    # Before `open`, which already reads everything that the file lists.
    coded_pixels = avif.coded_pixels(data) if format_ == "AVIF" else 0
    try:
        with Image.open(BytesIO(data), formats=[format_]) as image:
            bytes_per_pixel = _peak_bytes_per_pixel(image, format_)
            if format_ == "AVIF":
                hidden = max(0, coded_pixels / (image.width * image.height) - 2)
                bytes_per_pixel += _BYTES_PER_HIDDEN_PIXEL * hidden
            take(_checked_bytes(image.size, bytes_per_pixel, limits))
            image.load()
            return _mended_rgb(image, data, format_), orientation(image.info.get("exif", b""))
    except (RequestError, NoRoom, MemoryError):
        raise
    except Exception as error:
        if bmp.is_unreadable(error):
            raise UnsupportedImage("this kind of BMP is not supported") from None
        # Hostile bytes make Pillow raise nearly anything, from OSError to KeyError.
        raise damaged from None


def _prepared(data: bytes, format_: str, limits: DecodeLimits) -> bytes:
    """Check the file, and strip what Pillow would process before its size can be checked."""
    match format_:
        case "WEBP":
            size = webp_size(data)
            if size is None:
                raise CorruptImage("the WEBP data is truncated or damaged")
            _checked_bytes(size, _BYTES_PER_PIXEL[format_], limits)
        case "PNG":
            return png.bare(data)
        case "GIF":
            return gif.from_first_frame(data)
        case "BMP":
            bmp.check(data)
        case "AVIF":
            return avif.without_exif(data)
    return data


def _mended_rgb(image: Image.Image, data: bytes, format_: str) -> Image.Image:
    """Return the image that Pillow loaded from `data` in RGB, with what Pillow gets wrong put right."""
    match format_:
        case "PNG":
            if _may_lack_rows(image) and not png.is_whole(data):
                raise CorruptImage("the PNG is truncated: it lacks rows of its picture")
            png.mend_transparency(data, image)
        case "BMP":
            return _to_rgb(bmp.without_unused_alpha(image))
        case "GIF":
            rgb = _to_rgb(image)
            gif.clear_outside_frame(data, rgb)
            return rgb
    return _to_rgb(image)


def _peak_bytes_per_pixel(image: Image.Image, format_: str) -> float:
    plain = image.mode == "RGB" and not image.has_transparency_data
    return _BYTES_PER_RGB_PIXEL if plain and format_ in ("PNG", "BMP") else _BYTES_PER_PIXEL[format_]


def _checked_bytes(size: tuple[int, int], bytes_per_pixel: float, limits: DecodeLimits) -> int:
    """Return the bytes that decoding takes, if they and the size are within the limits."""
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {width} × {height} pixels; the limit is {limits.max_pixels} pixels"
        )
    if max(size) > MAX_SIDE:
        raise ImageTooLarge(f"the image has {width} × {height} pixels; the limit for a side is {MAX_SIDE}")
    if width * height * bytes_per_pixel > limits.max_decode_bytes:
        raise ImageTooLarge(
            f"decoding {width} × {height} pixels of this kind takes"
            f" {width * height * bytes_per_pixel / 2**20:.0f} MiB of memory;"
            f" the limit is {limits.max_decode_bytes / 2**20:.0f} MiB"
        )
    return math.ceil(width * height * bytes_per_pixel)


def _may_lack_rows(image: Image.Image) -> bool:
    """Return whether one of the last two rows is all zero, like rows that were never written.

    Two, because an interlaced PNG's last data is for its last odd row.
    """
    last = image.crop((0, max(image.height - 2, 0), image.width, image.height))
    return not np.asarray(last).reshape(last.height, -1).any(axis=1).all()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGB", image.size, "white")
        transparent = image if image.mode == "RGBA" else image.convert("RGBA")
        white.paste(transparent, mask=transparent)
        return white
    return image.convert("RGB") if image.mode != "RGB" else image


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # The high byte, as Pillow uses for 16-bit RGB; its own conversion of grey clips at 255.
    grey = (values >> 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _upright(image: Image.Image, turned: int) -> Image.Image:
    return image.transpose(_UPRIGHT[turned]) if turned in _UPRIGHT else image
