"""Wilson's confidence interval of a proportion."""

import math

_Z_95 = 1.959963984540054


def wilson_95(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of `count` out of `total` (at least 1), as (lower, upper)."""
    ratio = count / total
    spread = _Z_95**2 / total
    centre = (ratio + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4)) / (1 + spread)
    # At 0 and at `total` one bound is the ratio itself, but rounding could move it past that.
    return max(0.0, min(centre - half, ratio)), min(1.0, max(centre + half, ratio))
