"""A shadow's observer, and classifiers to run as shadows."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.inference.classifier import Classifier
from service.inference.shadow import Skip


class Recorder:
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.comparisons: list[tuple[str, dict[str, Any]]] = []
        self.skips: list[Skip] = []
        self.failures: list[tuple[str, Exception]] = []

    def compared(self, variant: str, **difference: Any) -> None:
        self.comparisons.append((variant, difference))

    def skipped(self, reason: Skip) -> None:
        self.skips.append(reason)

    def failed(self, variant: str, error: Exception) -> None:
        self.failures.append((variant, error))


class Broken(Classifier):
    """A classifier that fails as a delegate may."""

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("the device is gone")


class GatedShadow(Classifier):
    """A classifier that waits at a gate before each image."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "fp32")
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.started.release()
        assert self.gate.acquire(timeout=60)
        return super().probabilities(pixels)
