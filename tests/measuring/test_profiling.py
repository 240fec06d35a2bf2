from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from service.bundle.folder import Bundle
from service.errors import BundleError, DelegateError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.measuring.profiling import profile
from service.results.profile import VariantProfile
from tests.colours import PRECISIONS, altered
from tests.delegates import by_each_built_in, external
from tests.models import packed_model, unpacked_model
from tests.packed import packed_copy


def graph_of(result: VariantProfile) -> list[tuple[str, str]]:
    return [(operator.kind, operator.layer) for operator in result.operators]


@by_each_built_in
def test_variants_are_measured_side_by_side(colours: Bundle, delegate: Delegate) -> None:
    rounds: list[int] = []

    def progress(items: Sequence[int]) -> Iterable[int]:
        for item in items:
            rounds.append(item)
            yield item

    results = profile(colours, ["ptq", "fp32"], runs=3, delegate=delegate, progress=progress)
    assert list(results) == ["ptq", "fp32"]
    assert rounds == [0, 1, 2]
    for name, result in results.items():
        declared = colours.variant(name)
        assert (result.sha256, result.bytes) == (declared.sha256, declared.bytes)
        assert (result.precision, result.runs) == (declared.precision, 3)
        times = [o.p50_seconds for o in result.operators if o.p50_seconds is not None]
        shares = [o.share for o in result.operators if o.share is not None]
        assert sum(shares) == pytest.approx(1)
        assert shares == pytest.approx([time / sum(times) for time in times])
        taken = Classifier(colours, name, delegate).share.taken
        assert sum(operator.taken for operator in result.operators) == taken
        assert (taken > 0) == (delegate == Delegate.XNNPACK)


def test_the_sum_of_one_round_is_that_of_its_operators(colours: Bundle) -> None:
    result = profile(colours, ["ptq"], runs=1)["ptq"]
    assert result.sum_seconds == pytest.approx(sum(o.p50_seconds or 0 for o in result.operators))
    assert result.sum_ratio == pytest.approx(result.sum_seconds / result.p50_seconds)


@pytest.mark.parametrize("variant", ["fp32", "fp16", "dynamic", "ptq", "qat"])
def test_every_operator_of_a_real_graph_is_listed_with_who_computes_it(
    default_bundle: Bundle, variant: str
) -> None:
    result = profile(default_bundle, [variant], runs=1)[variant]
    assert (
        Counter(operator.kind for operator in result.operators) == default_bundle.variant(variant).operators
    )
    left = Counter(operator.kind for operator in result.operators if not operator.taken)
    assert left == Classifier(default_bundle, variant).share.left
    (first,) = [o for o in result.operators if "stem_conv/" in o.layer and o.kind == "CONV_2D"]
    assert (first.inputs[:2], first.outputs) == (((1, 224, 224, 3), (32, 3, 3, 3)), ((1, 112, 112, 32),))
    assert first.p50_seconds is not None


def test_a_packed_variant_is_unpacked(colours: Bundle, tmp_path: Path) -> None:
    packed = packed_copy(colours, tmp_path / "packed", *PRECISIONS)
    assert not packed.variant_path("ptq").name.endswith(".tflite")
    plain = profile(colours, ["ptq"], runs=1)["ptq"]
    assert graph_of(profile(packed, ["ptq"], runs=1)["ptq"]) == graph_of(plain)


def test_a_delegate_that_is_not_built_in_is_refused(colours: Bundle, library: Path) -> None:
    with pytest.raises(DelegateError, match="profile with xnnpack or none"):
        profile(colours, ["fp32"], runs=1, delegate=external(library))


def test_an_unknown_variant_is_refused(colours: Bundle) -> None:
    with pytest.raises(BundleError, match="no variant 'nope'"):
        profile(colours, ["nope"], runs=1)


def test_an_operator_that_does_not_run_alone_is_named(colours: Bundle, tmp_path: Path) -> None:
    # In the whole graph the runtime computes shapes itself: a wrong one in the file does not matter there.
    model = unpacked_model(colours.variant_path("fp32").read_bytes())
    (graph,) = model.subgraphs
    graph.tensors[graph.operators[0].outputs[0]].shape = [1, 2, 3, 4]
    bundle = altered(colours, tmp_path / "bundle", {"fp32.tflite": packed_model(model)})
    kind = {code: name for name, code in vars(schema.BuiltinOperator).items()}[
        model.operatorCodes[graph.operators[1].opcodeIndex].builtinCode
    ]
    message = f"^fp32 can't be profiled: operator 1, {kind}, does not run alone: "
    with pytest.raises(BundleError, match=message):
        profile(bundle, ["fp32"], runs=1)
