from build.assembly.operators import count_operators
from service.bundle import Bundle


def test_int8_has_one_quantize_and_no_float_island(small: Bundle) -> None:
    counts = count_operators(small.variant_path("ptq").read_bytes())
    assert "DEQUANTIZE" not in counts
    assert counts["QUANTIZE"] == 1
    assert counts["DEPTHWISE_CONV_2D"] == 16
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


def test_the_manifest_has_them(small: Bundle) -> None:
    for name, variant in small.manifest.variants.items():
        assert variant.operators == count_operators(small.variant_path(name).read_bytes())
    assert "QUANTIZE" not in small.variant("fp32").operators
