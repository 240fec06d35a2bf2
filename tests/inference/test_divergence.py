import math

import numpy as np
import pytest

from service.inference.divergence import kl_nats


def test_it_is_of_each_image_and_has_a_direction() -> None:
    expected = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)
    actual = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    there = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert kl_nats(expected, actual) == pytest.approx([0, there])
    assert kl_nats(actual, expected) == pytest.approx([0, back])
    assert float(kl_nats(expected[1], actual[1])) == pytest.approx(there)


def test_a_probability_of_0_does_not_make_it_infinite() -> None:
    expected, actual = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert float(kl_nats(expected, actual)) == pytest.approx(-math.log(1e-12))
