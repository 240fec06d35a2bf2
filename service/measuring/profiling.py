"""Measures how long each operator of a bundle's variants takes on this machine.

To the interpreter, a graph that XNNPACK took is a single node, and it reports no times anyway. So every
operator is cut out as a model of its own (`service.measuring.cuts`), which the same interpreter runs: with
XNNPACK if that took the operator in the whole graph, otherwise with the built-in kernels. Its inputs are what
the operators before it computed.

This is not exactly an operator's time within its graph: here it finds its own weights and inputs in the
processor's caches, there those of others; a call costs a microsecond; and operators that a delegate fuses are
separated, except for SiLU. `VariantProfile.sum_ratio` shows how large the total error is.

Other approaches, tried with LiteRT 2.3 on x86-64 (docs/profile.md has the numbers):

- LiteRT's own profiler, in libLiteRt.so, reports XNNPACK's kernels within the graph. But these lack layer
  names, and don't correspond one to one to operators; the profiler belongs to another interpreter than the
  one that serves; and its C-only interface changes between releases.
- The first call of each operator instead of the second: its caches are colder than in the graph, and the sum
  exceeds the whole.
- Differences between prefixes of the graph: an operator of microseconds is lost in the noise of milliseconds.
"""

from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.errors import BundleError, DelegateError
from service.inference import runtime
from service.inference.classifier import Classifier, encode
from service.inference.delegates import Delegate
from service.inference.golden import read_golden_vectors
from service.inference.interpreter import resolver
from service.inference.share import partitions_of, taken_by
from service.measuring.benchmark import Progress, silent
from service.measuring.cuts import Cut, Operator, cut
from service.results.profile import OperatorProfile, VariantProfile

THREADS = 1

# The values of the graph's tensors, by index.
_Values = dict[int, NDArray[Any]]


def profile(
    bundle: Bundle,
    variants: Sequence[str],
    *,
    runs: int = 200,
    delegate: Delegate = Delegate.XNNPACK,
    progress: Progress = silent,
) -> dict[str, VariantProfile]:
    """Measure the operators of variants, with one thread, on the first of the bundle's golden images.

    Each of `runs` rounds runs every variant's whole graph and each of its operators once, so that a slow
    moment of the machine affects all alike.

    Raises:
        BundleError, OperatorError, DelegateError, SelfTestError: a variant can't be loaded.
        BundleError: it can't be cut into operators.
        DelegateError: the delegate is not built into the runtime.
        StartError: the runtime can't read a graph's operators.
    """
    if not delegate.is_built_in:
        raise DelegateError(
            f"delegate {delegate} computes a graph as a whole, so times of single operators would be"
            " meaningless; profile with xnnpack or none"
        )
    measured = {name: _Pieces(bundle, name, delegate) for name in variants}
    for _ in progress(range(runs)):
        for pieces in measured.values():
            pieces.measure()
    return {name: pieces.result() for name, pieces in measured.items()}


class _Pieces:
    """A variant's whole graph and its cuts, loaded and with their inputs set."""

    def __init__(self, bundle: Bundle, variant: str, delegate: Delegate) -> None:
        content = Classifier(bundle, variant, delegate).content
        self._declared = bundle.variant(variant)
        pixels = encode(read_golden_vectors(bundle, variant).pixels[0], self._declared.input)
        self._whole = _load(content, delegate, [pixels])
        nodes = self._whole._get_ops_details()
        self._taken = taken_by(nodes, partitions_of(nodes))
        try:
            self._graph = cut(content)
            values = {self._graph.input: pixels}
            self._parts = [self._part(each, values, delegate) for each in self._graph.cuts]
        except BundleError as error:
            raise BundleError(f"{variant} can't be profiled: {error}") from None
        self._whole_seconds: list[float] = []
        self._seconds: list[list[float]] = []

    def measure(self) -> None:
        self._whole_seconds.append(_second_call(self._whole))
        self._seconds.append([_second_call(part) for part in self._parts])

    def result(self) -> VariantProfile:
        whole = median(self._whole_seconds)
        places = [each.place for each in self._graph.cuts]
        times = dict(zip(places, map(median, zip(*self._seconds, strict=True)), strict=True))
        total = sum(times.values())
        return VariantProfile(
            sha256=self._declared.sha256,
            bytes=self._declared.bytes,
            precision=self._declared.precision,
            runs=len(self._whole_seconds),
            p50_seconds=whole,
            sum_seconds=total,
            sum_ratio=total / whole,
            operators=tuple(
                self._operator(place, operator, times.get(place), total)
                for place, operator in enumerate(self._graph.operators)
            ),
        )

    def _part(self, each: Cut, values: _Values, delegate: Delegate) -> Any:
        """Load a cut and run it; add its outputs to `values`."""
        used = delegate if each.place in self._taken else Delegate.NONE
        try:
            part = _load(each.content, used, [values[tensor] for tensor in each.inputs])
        except (ValueError, RuntimeError) as error:
            kind, reason = self._graph.operators[each.place].kind, " ".join(str(error).split())
            raise BundleError(f"operator {each.place}, {kind}, does not run alone: {reason}") from None
        outputs = part.get_output_details()
        values.update({t: part.get_tensor(o["index"]) for t, o in zip(each.outputs, outputs, strict=True)})
        return part

    def _operator(
        self, place: int, operator: Operator, seconds: float | None, total: float
    ) -> OperatorProfile:
        return OperatorProfile(
            index=place,
            kind=operator.kind,
            layer=operator.layer,
            inputs=operator.inputs,
            outputs=operator.outputs,
            taken=place in self._taken,
            measured_with=operator.stays_with,
            p50_seconds=seconds,
            share=None if seconds is None else seconds / total,
        )


def _load(content: bytes, delegate: Delegate, values: Sequence[NDArray[Any]]) -> Any:
    """Return an interpreter of a `.tflite` that has run once; its inputs stay set."""
    model = runtime.Interpreter(
        model_content=content, num_threads=THREADS, experimental_op_resolver_type=resolver(delegate)
    )
    model.allocate_tensors()
    for details, value in zip(model.get_input_details(), values, strict=True):
        model.set_tensor(details["index"], value)
    model.invoke()
    return model


def _second_call(model: Any) -> float:
    """Return the seconds of a call right after another one, which has filled the caches for it."""
    model.invoke()
    start = perf_counter()
    model.invoke()
    return perf_counter() - start
