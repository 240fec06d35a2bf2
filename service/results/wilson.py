"""Wilson's interval of a proportion: how sure a share of so many is."""

import math

_Z_95 = 1.959963984540054


def wilson_95(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of `count` of `total` (at least 1), as (lower, upper)."""
    ratio = count / total
    spread = _Z_95**2 / total
    centre = (ratio + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4)) / (1 + spread)
    # At 0 and at `total` an end of the interval is the ratio itself, give or take a rounding.
    return max(0.0, min(centre - half, ratio)), min(1.0, max(centre + half, ratio))
