"""One loaded variant: image bytes → class probabilities."""

import math
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle, verify_variant
from service.bundle.manifest import InputTensor, OutputTensor, Tensor
from service.errors import BundleError, NoAnswer, SelfTestError
from service.images.pixels import DEFAULT_LIMITS, Crop, DecodeLimits, load_pixels
from service.images.room import Memory
from service.inference.delegates import Delegate
from service.inference.golden import check_golden_vectors, read_golden_vectors
from service.inference.interpreter import Interpreter
from service.inference.share import GraphShare


@dataclass(frozen=True, eq=False)
class Prediction:
    """A variant's answer for one image.

    `probabilities`: float32[classes], with sum 1. `decode_seconds`: bytes to pixels;
    `inference_seconds`: pixels to probabilities. `pixels`: what the model saw, uint8[height, width, 3].
    """

    variant: str
    probabilities: NDArray[np.float32]
    decode_seconds: float
    inference_seconds: float
    pixels: NDArray[np.uint8]

    def top(self, k: int) -> list[tuple[int, float]]:
        """Return the `k` most probable classes as (index, probability), most probable first.

        Ties go to the lower index.
        """
        rising = self.probabilities.copy()
        last = max(0, rising.size - max(1, k))
        rising.partition(last)
        # Includes all that tie with the last of them, so that the lower index wins.
        candidates = (self.probabilities >= rising[last]).nonzero()[0]
        pairs = zip(candidates.tolist(), self.probabilities[candidates].tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]


class Classifier:
    """A variant of a bundle, verified, loaded and self-tested. Belongs to one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        variant: str,
        delegate: Delegate = Delegate.XNNPACK,
        limits: DecodeLimits = DEFAULT_LIMITS,
    ) -> None:
        """Verify the variant's file, load it, and run its golden vectors.

        Raises:
            BundleError: there is no such variant, or its file is missing, damaged, can't be
                loaded or disagrees with the manifest.
            DelegateError, OperatorError: it can't run with this delegate or this runtime.
            SelfTestError: this device does not compute the golden vectors.
        """
        self._content = verify_variant(bundle, variant)
        self.bundle = bundle
        self.variant = variant
        self.delegate = delegate
        self._limits = limits
        self._declared = bundle.variant(variant)
        self._interpreter = self._load()
        self._self_test()

    def twin(self) -> Self:
        """Return another one of the same, for another thread.

        This neither verifies the file again nor runs the golden vectors: the same code computes the
        same file on the same device.

        Raises:
            BundleError: the file can no longer be loaded.
        """
        twin = copy(self)
        twin._interpreter = self._load()
        return twin

    @property
    def content(self) -> bytes:
        """The bytes of the `.tflite`, unpacked if the bundle has it packed."""
        return self._content or self.bundle.variant_path(self.variant).read_bytes()

    @property
    def share(self) -> GraphShare:
        """What the delegate took of the graph."""
        return self._interpreter.share

    def classify(
        self, data: bytes | NDArray[np.uint8], crop: Crop = Crop.BUNDLE, room: Memory | None = None
    ) -> Prediction:
        """Classify the bytes of one image, or its pixels, uint8[height, width, 3], unchanged.

        `room`: the memory to decode it, shared with other images.

        Raises:
            NoRoom: there is not enough left in `room`.
            UnsupportedImage, CorruptImage, ImageTooLarge: see `load_pixels`.
            NoAnswer: see `probabilities`.
        """
        start = perf_counter()
        pixels = data
        if isinstance(pixels, bytes):
            pixels = load_pixels(pixels, self.bundle.manifest.preprocessing, crop, self._limits, room)
        decoded = perf_counter()
        probabilities = self.probabilities(pixels)
        return Prediction(self.variant, probabilities, decoded - start, perf_counter() - decoded, pixels)

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the dequantized output for pixels uint8[height, width, 3]: float32[classes].

        The manifest says whether these are logits or probabilities.
        """
        return _dequantize(self._raw(pixels), self._declared.output)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probabilities for pixels uint8[height, width, 3]: float32[classes], with sum 1.

        Raises:
            NoAnswer: the model's scores yield NaN or infinity.
        """
        scores = self.scores(pixels)
        # NumPy would warn about what is raised below.
        with np.errstate(invalid="ignore"):
            of_logits = self._declared.output.kind == "logits"
            probabilities = softmax(scores) if of_logits else _normalize(scores)
        if not np.isfinite(probabilities).all():
            raise NoAnswer(
                f"variant {self.variant} gives NaN or infinity for this image: its model is at fault, not the"
                " image"
            )
        return probabilities

    def _load(self) -> Interpreter:
        path = self.bundle.variant_path(self.variant)
        interpreter = Interpreter(path, self.delegate, content=self._content)
        check_tensors(str(path), interpreter, self._declared.input, self._declared.output)
        return interpreter

    def _raw(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        raw: NDArray[Any] = self._interpreter.invoke(encode(pixels, self._declared.input))[0]
        return raw

    def _self_test(self) -> None:
        golden = read_golden_vectors(self.bundle, self.variant)
        name = f"{self.bundle.variant_path(self.variant)} ({self.delegate})"
        try:
            actual = np.stack([self._raw(pixels) for pixels in golden.pixels])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise SelfTestError(
                f"{name} fails on its golden vectors: {reason}; try another delegate"
            ) from None
        check_golden_vectors(name, golden.expected, actual, self._declared.golden)


def encode(pixels: NDArray[np.uint8], tensor: InputTensor) -> NDArray[Any]:
    """Convert pixels uint8[height, width, 3] to the input [1, height, width, 3] in the tensor's dtype."""
    batch = pixels[np.newaxis]
    if tensor.dtype == "float32":
        return _normalized(batch, tensor)
    if not tensor.takes_pixels:
        # By rows, as in `_normalized`; the table holds one channel after the other.
        channels = np.tile(np.arange(3) * 256, pixels.shape[1])
        return _table(tensor).take(_rows(batch) + channels).reshape(batch.shape)
    if tensor.dtype == "uint8":
        return batch
    return (batch ^ 0x80).view(np.int8)  # Flipping the top bit is subtracting 128.


def _normalized(batch: NDArray[np.uint8], tensor: InputTensor) -> NDArray[np.float32]:
    """Return (pixel - mean) / std: float32 of the batch's shape."""
    mean, std = np.array(tensor.mean, np.float32), np.array(tensor.std, np.float32)
    if mean.ndim == std.ndim == 0:
        return (batch.astype(np.float32) - mean) / std
    # NumPy broadcasts a whole row far faster than three values: this takes a fifth of the time.
    mean, std = (np.tile(np.broadcast_to(values, 3), batch.shape[2]) for values in (mean, std))
    return ((_rows(batch).astype(np.float32) - mean) / std).reshape(batch.shape)


def _rows(batch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reshape [n, height, width, 3] to [n, height, 3 · width]."""
    return batch.reshape(*batch.shape[:2], -1)


@lru_cache
def _table(tensor: InputTensor) -> NDArray[Any]:
    """Return the integer input's values for 0…255 in each channel: [3 · 256], red first."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
    values = _normalized(ramp, tensor)[0, 0].T.ravel()
    limits = np.iinfo(tensor.dtype)
    levels: NDArray[np.float32] = np.rint(values / np.float32(tensor.scale) + np.float32(tensor.zero_point))
    return levels.clip(limits.min, limits.max).astype(tensor.dtype)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert logits [..., classes] to probabilities float32[..., classes], computed in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities.astype(np.float32)


def _dequantize(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float32]:
    if tensor.scale is None or tensor.zero_point is None:
        return values.astype(np.float32, copy=False)
    return np.float32(tensor.scale) * (values.astype(np.float32) - np.float32(tensor.zero_point))


def _normalize(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    total = probabilities.sum(dtype=np.float64)
    if -math.inf < total <= 0:
        # An 8-bit softmax over many classes can round all of them to zero.
        return np.full_like(probabilities, 1 / probabilities.size)
    shares: NDArray[np.float64] = probabilities / total
    return shares.astype(np.float32)


def check_tensors(name: str, interpreter: Interpreter, input_: InputTensor, output: OutputTensor) -> None:
    """Check that a loaded file has the declared tensors, and that its output can be interpreted.

    Raises:
        BundleError: its tensors differ, or its output is of integers without a scale; the message
            begins with `name`.
    """
    pairs = {"input": (interpreter.input, input_), "output": (interpreter.output, output)}
    for which, (actual, declared) in pairs.items():
        if not _same(actual, declared):
            raise BundleError(
                f"{name}: {which} is {_describe(actual)}, but the manifest says {_describe(declared)};"
                " build it again"
            )
    # An input without a scale takes the pixels as they are: a model that casts them itself needs none.
    if output.dtype != "float32" and output.scale is None:
        raise BundleError(
            f"{name}: output is {output.dtype} without a scale, so its values mean nothing; convert it again"
        )


def _same(actual: Tensor, declared: Tensor) -> bool:
    return (
        actual.dtype == declared.dtype
        and actual.shape == declared.shape
        and actual.zero_point == declared.zero_point
        and math.isclose(actual.scale or 0, declared.scale or 0, rel_tol=1e-6)
    )


def _describe(tensor: Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)} with scale {tensor.scale} and zero point {tensor.zero_point}"
