"""How closely answers match those of the shadow variant, where they were compared."""

import logging
from collections import defaultdict, deque
from statistics import fmean

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.monitoring.logs import SERVICE_LOGGER, fields

# Reasons for skipping a comparison that was due.
SKIPS = ("queue", "shadow", "failed")
# Comparisons in the mean of the confidence shift.
WINDOW = 1000
# Nats: half of the images are below 0.003 with a good int8 variant; above 1, answers have little in common.
KL_BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

_log = logging.getLogger(SERVICE_LOGGER)


class Fidelity:
    """The metrics of shadow runs; any thread may report comparisons, but only one at a time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.total = Counter(
            "edgewise_shadow_total",
            "Answers compared with the shadow variant's, by the variant that answered.",
            ["variant"],
            registry=registry,
        )
        self.agree = Counter(
            "edgewise_shadow_agree_total",
            "Answers with the same top-1 as the shadow variant's.",
            ["variant"],
            registry=registry,
        )
        self.kl_nats = Histogram(
            "edgewise_shadow_kl_nats",
            "KL divergence of the answer's probabilities from the shadow variant's, in nats.",
            ["variant"],
            buckets=KL_BUCKETS,
            registry=registry,
        )
        self.confidence_shift = Gauge(
            "edgewise_shadow_confidence_shift_ratio",
            f"Top-1 probability minus the shadow variant's, mean of the last {WINDOW} comparisons.",
            ["variant"],
            registry=registry,
        )
        self.skips = Counter(
            "edgewise_shadow_skipped_total",
            "Comparisons with the shadow variant that were due but skipped, by reason.",
            ["reason"],
            registry=registry,
        )
        self._shifts: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._skips_of = {reason: self.skips.labels(reason) for reason in SKIPS}

    def compared(self, variant: str, *, agrees: bool, kl_nats: float, confidence_shift: float) -> None:
        """Count a comparison of the variant's answer with the shadow's.

        `agrees`: whether the top-1 is the same; `kl_nats`: the divergence; `confidence_shift`: the
        variant's top-1 probability minus the shadow's.
        """
        self.total.labels(variant).inc()
        self.agree.labels(variant).inc(agrees)
        # Rounding can make a divergence negative, and Prometheus would take a falling sum for a restart.
        self.kl_nats.labels(variant).observe(max(0.0, kl_nats))
        shifts = self._shifts[variant]
        shifts.append(confidence_shift)
        self.confidence_shift.labels(variant).set(fmean(shifts))

    def skipped(self, reason: str) -> None:
        """Count a comparison that was due but skipped."""
        self._skips_of[reason].inc()

    def failed(self, variant: str, error: Exception) -> None:
        """Count and log a failed comparison of the variant's answer."""
        self.skipped("failed")
        _log.error("the shadow run failed", exc_info=error, extra=fields(variant=variant))
