import math

import numpy as np
import pytest

from service.inference.divergence import kl_nats


def test_the_divergence_is_per_image_and_not_symmetric() -> None:
    expected = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)
    actual = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    forward = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    backward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert kl_nats(expected, actual) == pytest.approx([0, forward])
    assert kl_nats(actual, expected) == pytest.approx([0, backward])
    assert float(kl_nats(expected[1], actual[1])) == pytest.approx(forward)


def test_a_probability_of_0_does_not_make_it_infinite() -> None:
    expected, actual = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert float(kl_nats(expected, actual)) == pytest.approx(-math.log(1e-12))
