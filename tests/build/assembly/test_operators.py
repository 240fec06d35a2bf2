from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from build.assembly.operators import count_operators, precision_of, rounds_activations
from service.bundle.folder import Bundle, verify_variant
from service.bundle.manifest import Precision
from tests.models import packed_model, unpacked_model, with_unpacked_weights


def test_an_int8_file_has_one_quantize_and_no_dequantize(small: Bundle) -> None:
    counts = count_operators(small.variant_path("ptq").read_bytes())
    assert "DEQUANTIZE" not in counts
    assert counts["QUANTIZE"] == 1
    assert counts["DEPTHWISE_CONV_2D"] == 16
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_the_manifest_lists_the_operators_of_each_variant(small: Bundle) -> None:
    for name, variant in small.manifest.variants.items():
        assert variant.operators == count_operators(small.variant_path(name).read_bytes())
    assert "QUANTIZE" not in small.variant("fp32").operators


def test_operators_of_an_old_file_are_read_from_the_deprecated_field(colour_models: Path) -> None:
    content = (colour_models / "ptq.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for code in model.operatorCodes:
        code.builtinCode = 0
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    assert count_operators(bytes(builder.Output())) == count_operators(content)


def test_the_precision_of_a_file_is_derived_from_its_layers(default_bundle: Bundle, small: Bundle) -> None:
    for bundle in (default_bundle, small):
        for name, variant in bundle.manifest.variants.items():
            content = verify_variant(bundle, name) or bundle.variant_path(name).read_bytes()
            assert precision_of(content) == variant.precision


def test_whether_activations_are_rounded_is_told_by_the_layers(default_bundle: Bundle) -> None:
    rounding = {
        name: rounds_activations(verify_variant(default_bundle, name) or file.read_bytes())
        for name in default_bundle.manifest.variants
        if (file := default_bundle.variant_path(name))
    }
    assert rounding == dict.fromkeys(["fp32", "fp16"], False) | dict.fromkeys(
        ["dynamic", "ptq", "qat", "small"], True
    )
    content = with_unpacked_weights(default_bundle.variant_path("dynamic").read_bytes())
    assert (precision_of(content), rounds_activations(content)) == (Precision.MIXED, False)


def test_an_operator_may_round_them_between_layers_of_float(colour_models: Path) -> None:
    content = unpacked_model((colour_models / "fp32.tflite").read_bytes())
    assert not rounds_activations(packed_model(content))
    (code, *_) = content.operatorCodes
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FAKE_QUANT
    assert rounds_activations(packed_model(content))
