"""How far one variant's probabilities are from another's."""

import numpy as np
from numpy.typing import NDArray

# A quantized softmax can output 0, which would make a divergence infinite.
_LEAST_PROBABILITY = 1e-12


def kl_nats(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the divergence KL(expected‖actual) along the last axis: float32[..., classes] → float64[...].

    A probability below 1e-12 counts as 1e-12. Rounding can make the result slightly negative.
    """
    p = np.maximum(expected.astype(np.float64), _LEAST_PROBABILITY)
    q = np.maximum(actual.astype(np.float64), _LEAST_PROBABILITY)
    divergence: NDArray[np.float64] = (p * np.log(p / q)).sum(axis=-1)
    return divergence
