import numpy as np
import pytest
from numpy.typing import NDArray

from build.network.model import LayerWeights
from build.training.temperature import LEAST_PHOTOS, at_temperature, fit_temperature
from service.inference.classifier import softmax
from service.measuring.evaluation import expected_calibration_error

CLASSES = 10


def calibrated_logits(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Calibrated logits with labels, which are drawn with the probabilities of the logits."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (count, CLASSES)).astype(np.float32)
    labels = [random.choice(CLASSES, p=row / row.sum()) for row in softmax(logits).astype(np.float64)]
    return logits, np.array(labels, np.intp)


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.intp]) -> float:
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_temperature_corrects_logits_that_are_scaled(factor: float) -> None:
    logits, labels = calibrated_logits(5000)
    temperature = fit_temperature(factor * logits, labels)
    assert temperature == pytest.approx(factor, rel=0.05)
    assert temperature is not None
    new, new_labels = calibrated_logits(5000, seed=1)
    assert expected_calibration_error(softmax(factor * new / temperature), new_labels) < 0.02


def test_the_temperature_minimises_the_cross_entropy() -> None:
    logits, labels = calibrated_logits(5000)
    temperature = fit_temperature(logits, labels)
    assert temperature is not None
    least = cross_entropy(logits / temperature, labels)
    for other in (0.9 * temperature, 1.1 * temperature):
        assert least < cross_entropy(logits / other, labels)


def test_with_no_errors_the_confidence_suits_the_number_of_photos() -> None:
    labels = np.arange(100) % CLASSES
    logits = np.eye(CLASSES, dtype=np.float32)[labels]
    temperature = fit_temperature(logits, labels)
    assert temperature is not None
    assert softmax(logits / temperature).max(axis=1) == pytest.approx(1 - 1 / 102, abs=1e-4)


def test_too_few_photos_give_no_temperature() -> None:
    assert fit_temperature(*calibrated_logits(LEAST_PHOTOS - 1)) is None
    assert fit_temperature(*calibrated_logits(LEAST_PHOTOS)) is not None


def test_uninformative_logits_give_no_temperature() -> None:
    logits, labels = calibrated_logits(100)
    assert fit_temperature(np.zeros_like(logits), labels) is None
    assert fit_temperature(-logits, labels) is None


def test_the_layer_divides_the_logits_by_the_temperature() -> None:
    random = np.random.default_rng(0)
    kernel, bias, features = (random.normal(0, 1, s).astype(np.float32) for s in ((8, 3), 3, (5, 8)))
    layer = at_temperature(LayerWeights(kernel, bias), 0.5)
    assert layer.kernel.dtype == layer.bias.dtype == np.float32
    expected = (features @ kernel + bias) / 0.5
    np.testing.assert_allclose(features @ layer.kernel + layer.bias, expected, rtol=1e-5)
