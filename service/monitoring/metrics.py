"""The service's metrics, in a registry that is passed in; `docs/metrics.md` explains each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from service.bundle.manifest import Variant, reference_evaluation
from service.errors import (
    DeadlineExceeded,
    Draining,
    InternalError,
    InvalidHttp,
    NoAnswer,
    QueueFull,
    RequestError,
    SlowBody,
    TooManyConnections,
    Unauthorized,
    WaitTooLong,
)

STAGES = ("read", "queue", "decode", "inference", "total")
# These errors count as rejections, and so do clients that disconnect.
REASONS: dict[type[RequestError], str] = {
    QueueFull: "queue_full",
    WaitTooLong: "wait_too_long",
    DeadlineExceeded: "deadline",
    SlowBody: "slow_body",
    Unauthorized: "unauthorized",
    Draining: "draining",
    TooManyConnections: "too_many_connections",
    InvalidHttp: "invalid_http",
    NoAnswer: "no_answer",
    InternalError: "internal_error",
}
CLIENT_GONE = "client_gone"
REJECTIONS = (*REASONS.values(), CLIENT_GONE)
# 1 ms × 1.6^i, up to 4.7 s: prometheus-client's defaults start at 5 ms, too coarse for a small model.
STAGE_BUCKETS = tuple(round(0.001 * 1.6**i, 6) for i in range(19))

# Otherwise every counter and histogram has a second series, with its creation time.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LoadedInfo:
    """What the metrics show of a loaded variant.

    `partitions`: how many parts of its graph the delegate took; `is_fallback`: whether it runs without
    the requested delegate.
    """

    name: str
    variant: Variant
    runtime: str
    delegate: str
    partitions: int
    is_fallback: bool


class Metrics:
    """The metrics; labels come from the code and the bundle, never from a request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self.build_info = _gauge(
            registry,
            "edgewise_build_info",
            "1, with the versions of the service, its runtime and Python.",
            ["version", "runtime", "python"],
        )
        self.requests = Counter(
            "edgewise_requests_total",
            "Requests answered, by route, status and the variant that answered.",
            ["route", "status", "variant"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "edgewise_stage_seconds",
            "Seconds that each stage of an answered classification took.",
            ["stage", "variant"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self.rejected = Counter(
            "edgewise_rejected_total",
            "Requests not answered as requested, by reason.",
            ["reason"],
            registry=registry,
        )
        self.log_lines_dropped = Counter(
            "edgewise_log_lines_dropped_total",
            "Log lines that could not be written.",
            registry=registry,
        )
        self.queue_depth = _gauge(
            registry, "edgewise_queue_depth", "Images waiting for a worker or for decoding memory."
        )
        self.queue_capacity = _gauge(registry, "edgewise_queue_capacity", "Places in the queue.")
        self.workers = _gauge(registry, "edgewise_workers", "Images processed concurrently.")
        self.variant_info = _gauge(
            registry,
            "edgewise_variant_info",
            "1 for each loaded variant.",
            ["bundle", "variant", "precision", "sha256", "runtime", "delegate"],
        )
        self.delegate_partitions = _gauge(
            registry,
            "edgewise_delegate_partitions",
            "Parts of the loaded variant's graph that the delegate took.",
            ["variant"],
        )
        self.delegate_fallback = _gauge(
            registry,
            "edgewise_delegate_fallback",
            "1 if the active variant does not run on the requested delegate, else 0.",
        )
        self.variant_active = _gauge(
            registry,
            "edgewise_variant_active",
            "1 for the loaded variant that answers if a request names none, 0 for the others.",
            ["variant"],
        )
        self.model_bytes = _gauge(
            registry, "edgewise_model_bytes", "Size of the loaded variant's file.", ["variant"]
        )
        self.expected_accuracy = _gauge(
            registry,
            "edgewise_expected_accuracy_ratio",
            "Top-k accuracy of the loaded variant in the bundle's reference evaluation.",
            ["variant", "k"],
        )
        self.under_load = _gauge(
            registry,
            "edgewise_under_load",
            "1 while EDGEWISE_VARIANT_UNDER_LOAD answers instead of the active variant.",
        )
        self.switches = Counter(
            "edgewise_switches_total",
            "Switches of the active variant, by requested variant and outcome.",
            ["variant", "outcome"],
            registry=registry,
        )
        self.uncertain = Counter(
            "edgewise_uncertain_total",
            "Answers whose top class was less probable than min_probability.",
            ["variant"],
            registry=registry,
        )
        # Cached: looking them up by label takes as long as counting.
        self._stages_of: dict[str, dict[str, Histogram]] = {}
        self._uncertain_of: dict[str, Counter] = {}
        for reason in REJECTIONS:
            self.rejected.labels(reason)

    def observe_stages(self, variant: str, **seconds: float) -> None:
        """Record the duration of each of `STAGES`, in seconds, of one answered classification."""
        stages = self._stages_of.get(variant)
        if stages is None:
            stages = self._stages_of[variant] = {s: self.stage_seconds.labels(s, variant) for s in STAGES}
        for stage, histogram in stages.items():
            histogram.observe(seconds[stage])

    def show_build(self, version: str, runtime: str, python: str) -> None:
        """Show the versions of the service, its runtime and Python."""
        self.build_info.labels(version, runtime, python).set(1)

    def count_uncertain(self, variant: str, uncertain: bool) -> None:
        """Count an answer if it is uncertain; a variant's first answer creates its series."""
        counter = self._uncertain_of.get(variant)
        if counter is None:
            counter = self._uncertain_of[variant] = self.uncertain.labels(variant)
        if uncertain:
            counter.inc()

    def show_variants(self, bundle: str, active: str, loaded: Iterable[LoadedInfo]) -> None:
        """Show exactly these variants as loaded."""
        for gauge in (
            self.variant_info,
            self.variant_active,
            self.delegate_partitions,
            self.model_bytes,
            self.expected_accuracy,
        ):
            gauge.clear()
        for info in loaded:
            name, variant = info.name, info.variant
            self.variant_info.labels(
                bundle, name, variant.precision, variant.sha256, info.runtime, info.delegate
            ).set(1)
            self.variant_active.labels(name).set(name == active)
            if name == active:
                self.delegate_fallback.set(info.is_fallback)
            self.delegate_partitions.labels(name).set(info.partitions)
            self.model_bytes.labels(name).set(variant.bytes)
            evaluation = reference_evaluation(variant.evaluations)
            if evaluation:
                self.expected_accuracy.labels(name, "1").set(evaluation.top1.ratio)
                self.expected_accuracy.labels(name, "5").set(evaluation.top5.ratio)

    def watch_queue(self, depth: Callable[[], int], capacity: int, workers: int) -> None:
        """Show the queue; its depth is read at each scrape."""
        self.queue_depth.set_function(depth)
        self.queue_capacity.set(capacity)
        self.workers.set(workers)


def _gauge(registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
    return Gauge(name, text, labels, registry=registry)
