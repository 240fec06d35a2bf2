"""Compare weights."""

import numpy as np

from build.network.model import Weights


def assert_equal(actual: Weights, expected: Weights) -> None:
    assert actual.keys() == expected.keys()
    for name, layer in expected.items():
        np.testing.assert_array_equal(actual[name].kernel, layer.kernel, name)
        np.testing.assert_array_equal(actual[name].bias, layer.bias, name)
