"""Every metric, in one registry that is passed in; `docs/metrics.md` says what each means."""

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
    InvalidHttp,
    QueueFull,
    RequestError,
    SlowBody,
    TooManyConnections,
    Unauthorized,
    WaitTooLong,
)

STAGES = ("read", "queue", "decode", "inference", "total")
# What counts as a rejection: these errors, and clients that left.
REASONS: dict[type[RequestError], str] = {
    QueueFull: "queue_full",
    WaitTooLong: "wait_too_long",
    DeadlineExceeded: "deadline",
    SlowBody: "slow_body",
    Unauthorized: "unauthorized",
    Draining: "draining",
    TooManyConnections: "too_many_connections",
    InvalidHttp: "invalid_http",
}
CLIENT_GONE = "client_gone"
REJECTIONS = (*REASONS.values(), CLIENT_GONE)
# 1 ms × 1.6^i, to 4.7 s: prometheus-client's own begin at 5 ms, which a small model undercuts.
STAGE_BUCKETS = tuple(round(0.001 * 1.6**i, 6) for i in range(19))

# Else every counter and histogram has a second series, with the time of its first count.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class LoadedInfo:
    """What is shown of a variant as long as it is loaded.

    `partitions`: of its graph, what the delegate took; `is_fallback`: that is not the delegate that was
    asked for.
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
            "Requests that were not answered as asked, by reason.",
            ["reason"],
            registry=registry,
        )
        self.log_lines_dropped = Counter(
            "edgewise_log_lines_dropped_total",
            "Lines of the log that could not be written.",
            registry=registry,
        )
        self.queue_depth = _gauge(registry, "edgewise_queue_depth", "Images waiting for a worker.")
        self.queue_capacity = _gauge(registry, "edgewise_queue_capacity", "Places in the queue.")
        self.workers = _gauge(registry, "edgewise_workers", "Images worked on at once.")
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
            "1 where the active variant does not run on the delegate that was asked for.",
        )
        self.variant_active = _gauge(
            registry,
            "edgewise_variant_active",
            "1 for the loaded variant that answers where a request names none, 0 for the others.",
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
            "1 while EDGEWISE_VARIANT_UNDER_LOAD answers in place of the active variant.",
        )
        self.switches = Counter(
            "edgewise_switches_total",
            "Switches of the active variant, by the variant asked for and how they ended.",
            ["variant", "outcome"],
            registry=registry,
        )
        self.uncertain = Counter(
            "edgewise_uncertain_total",
            "Answers whose likeliest class was less probable than min_probability.",
            ["variant"],
            registry=registry,
        )
        # Looking them up by their labels takes as long as counting.
        self._stages_of: dict[str, dict[str, Histogram]] = {}
        self._uncertain_of: dict[str, Counter] = {}
        for reason in REJECTIONS:
            self.rejected.labels(reason)

    def observe_stages(self, variant: str, **seconds: float) -> None:
        """Count what each of `STAGES` took in one answered classification."""
        stages = self._stages_of.get(variant)
        if stages is None:
            stages = self._stages_of[variant] = {s: self.stage_seconds.labels(s, variant) for s in STAGES}
        for stage, histogram in stages.items():
            histogram.observe(seconds[stage])

    def show_build(self, version: str, runtime: str, python: str) -> None:
        """Show which version of the service runs, and on what."""
        self.build_info.labels(version, runtime, python).set(1)

    def count_uncertain(self, variant: str, uncertain: bool) -> None:
        """Count an answer if it is uncertain; the first one shows the variant, with 0 if it is not."""
        counter = self._uncertain_of.get(variant)
        if counter is None:
            counter = self._uncertain_of[variant] = self.uncertain.labels(variant)
        if uncertain:
            counter.inc()

    def show_variants(self, bundle: str, active: str, loaded: Iterable[LoadedInfo]) -> None:
        """Show these variants, and no others, as those that are loaded."""
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
        """Show the queue: its depth is asked for at each scrape."""
        self.queue_depth.set_function(depth)
        self.queue_capacity.set(capacity)
        self.workers.set(workers)


def _gauge(registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
    return Gauge(name, text, labels, registry=registry)
