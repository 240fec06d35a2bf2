import json
import math
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import MANIFEST
from service.errors import BundleError, StartError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.footprint import measure_footprint
from service.inference.runtime import RUNTIME
from service.measuring.benchmark import benchmark, measure
from tests.colours import altered
from tests.signed import make_key_pair, signed_copy

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("variants", "against"), [(["ptq", "fp32"], "fp32"), (["int8", "ptq"], "int8"), (["softmax"], "softmax")]
)
def test_variants_are_measured_side_by_side(colours: Bundle, variants: list[str], against: str) -> None:
    rounds: list[int] = []

    def progress(items: Sequence[int]) -> Iterable[int]:
        for item in items:
            rounds.append(item)
            yield item

    results = benchmark(colours, variants, runs=25, delegate=Delegate.NONE, progress=progress)
    assert [result.variant for result in results] == variants
    assert rounds == [0, 1, 2]
    by_name = {result.variant: result for result in results}
    for result in results:
        assert result.bytes == colours.variant(result.variant).bytes
        assert (result.runtime, result.delegate, result.runs) == (RUNTIME, "none", 30)
        assert 0 < result.p50_seconds <= result.p99_seconds
        assert 0 < result.mean_seconds <= result.p99_seconds * 2
        assert result.against == against
        assert result.speedup == by_name[against].p50_seconds / result.p50_seconds
        assert result.load_seconds > 0
        # An interpreter with NumPy, Pillow and LiteRT is some tens of megabytes.
        assert result.resident_bytes is None or 20e6 < result.resident_bytes < 500e6
        assert result.joules is None
    assert by_name[against].speedup == 1


def test_a_benchmark_reloads_each_variant_at_intervals(
    colours: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins: list[str] = []
    twin = Classifier.twin

    def counted(classifier: Classifier) -> Classifier:
        twins.append(classifier.variant)
        return twin(classifier)

    monkeypatch.setattr(Classifier, "twin", counted)
    benchmark(colours, ["fp32", "ptq"], runs=50)
    assert twins == ["fp32", "ptq"] * 2


def test_classifiers_are_replaced_by_twins(colours: Bundle) -> None:
    first = [Classifier(colours, name, Delegate.NONE) for name in ("fp32", "ptq")]
    classifiers = list(first)
    measured = measure(classifiers, range(5), rounds_a_load=5)
    assert classifiers == first
    measured = measure(classifiers, range(5), rounds_a_load=2)
    assert [classifier.variant for classifier in classifiers] == ["fp32", "ptq"]
    assert not set(classifiers) & set(first)
    assert [len(measured[name].seconds) for name in ("fp32", "ptq")] == [50, 50]


def test_joules_are_per_inference(colours: Bundle) -> None:
    # The joules include the one before each turn of ten: two turns have 22 inferences.
    readings = iter([10.0, 10.5, 11.0, 11.6])
    (result,) = benchmark(colours, ["ptq"], runs=20, joules=readings.__next__)
    assert result.joules == pytest.approx(1.1 / 22)


@pytest.mark.parametrize("readings", [[1.0, 1.5, 2.0, 2.0], [1.0, 1.5, 2.0, math.nan]])
def test_a_counter_that_stands_still_or_fails_gives_no_joules(colours: Bundle, readings: list[float]) -> None:
    (result,) = benchmark(colours, ["ptq"], runs=20, joules=iter(readings).__next__)
    assert result.joules is None


def test_the_measured_process_imports_no_more_than_the_core() -> None:
    code = "import sys, json, service.inference.footprint; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert not {"fastapi", "starlette", "uvicorn", "tensorflow"} & set(json.loads(output))


def test_a_variant_that_cannot_be_loaded_is_reported(colours: Bundle, tmp_path: Path) -> None:
    bundle = altered(colours, tmp_path / "bundle", {"ptq.tflite": b"no model at all"})
    with pytest.raises(StartError, match=r"loading ptq .* failed: .*can't be loaded") as caught:
        measure_footprint(bundle, "ptq", Delegate.XNNPACK)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="no variant 'nope'"):
        benchmark(colours, ["nope"], runs=10)


def test_a_separate_process_refuses_a_changed_signed_bundle(colours: Bundle, tmp_path: Path) -> None:
    pair = make_key_pair(tmp_path / "keys")
    bundle = load_bundle(signed_copy(colours, tmp_path / "signed", pair), pair.public)
    assert measure_footprint(bundle, "ptq", Delegate.XNNPACK).load_seconds > 0
    other = altered(colours, tmp_path / "other", {"ptq.tflite": colours.variant_path("softmax").read_bytes()})
    for name in (MANIFEST, "ptq.tflite"):
        (bundle.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(StartError, match=rf"loading ptq .* failed: .* is not the signature of {MANIFEST}"):
        measure_footprint(bundle, "ptq", Delegate.XNNPACK)
