"""Golden vectors: stored pixels, and what each variant computed for them where it was built."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle, read_file
from service.bundle.manifest import GOLDEN, GoldenTolerance
from service.errors import BundleError, SelfTestError

_PIXELS = "pixels"


@dataclass(frozen=True, eq=False)
class GoldenVectors:
    """`pixels`: uint8[n, height, width, 3]; `expected`: [n, classes], in the output's dtype."""

    pixels: NDArray[np.uint8]
    expected: NDArray[Any]


def read_golden_vectors(bundle: Bundle, variant: str) -> GoldenVectors:
    """Return the bundle's golden vectors for one variant.

    Raises:
        BundleError: they are missing, damaged, or don't have the variant's shapes and dtypes.
    """
    declared = bundle.variant(variant)
    path = bundle.path / GOLDEN
    content = read_file(bundle, GOLDEN)
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            pixels, expected = arrays[_PIXELS], arrays[variant]
    except Exception as error:
        # Bytes that are no such archive make NumPy raise nearly anything, from KeyError to MemoryError.
        raise BundleError(f"{path} has no golden vectors of {variant}: {error}; build it again") from None
    count = len(pixels) if pixels.ndim else 0
    if (
        count == 0
        or pixels.shape != (count, *declared.input.shape[1:])
        or pixels.dtype != np.uint8
        or expected.shape != (count, *declared.output.shape[1:])
        or expected.dtype != np.dtype(declared.output.dtype)
    ):
        raise BundleError(
            f"{path}: pixels {pixels.dtype}{list(pixels.shape)} and {variant}"
            f" {expected.dtype}{list(expected.shape)} do not match the manifest; build the bundle again"
        )
    return GoldenVectors(pixels, expected)


def check_golden_vectors(
    name: str, expected: NDArray[Any], actual: NDArray[Any], tolerance: GoldenTolerance
) -> None:
    """Compare raw outputs with the expected ones, each [n, classes].

    Raises:
        SelfTestError: they differ by more than `tolerance`; the message begins with `name`.
    """
    differences = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    largest, share = float(differences.max()), float((differences != 0).mean())
    # Not `largest > …`: that would let NaN pass.
    if not (largest <= tolerance.largest and share <= tolerance.share):
        raise SelfTestError(
            f"{name} does not compute its golden vectors on this device: the largest difference is"
            f" {largest:g} (at most {tolerance.largest:g}), {share:.2%} of the values differ (at most"
            f" {tolerance.share:.2%}); try another delegate, or build the bundle for this device"
        )
