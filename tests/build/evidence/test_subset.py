from pathlib import Path

import pytest

from build.__main__ import main
from build.evidence.evaluation import START
from build.evidence.reference import read_per_class
from build.evidence.subset import write_subset
from service.bundle.folder import Bundle, load_bundle, verify
from service.bundle.manifest import MODEL_CARD
from service.bundle.reference import read_reference
from service.errors import BundleError
from service.inference.classifier import Classifier
from tests.packed import packed_copy


def test_a_subset_keeps_the_results_of_its_variants(measured: Bundle, tmp_path: Path) -> None:
    bundle = write_subset(measured, ["ptq"], tmp_path / "one")
    verify(bundle)
    manifest = bundle.manifest
    assert manifest.variants == {"ptq": measured.variant("ptq")}
    assert (manifest.name, manifest.default_variant) == ("one", "ptq")
    assert "fp32.tflite" not in [path.name for path in bundle.path.iterdir()]
    assert (manifest.training, bundle.seen_images) == (measured.manifest.training, measured.seen_images)
    reference, whole = read_reference(bundle), read_reference(measured)
    assert reference is not None
    assert whole is not None
    assert reference.variants == {"ptq": whole.variants["ptq"]}
    assert [(row.label, row.images, row.right) for row in read_per_class(bundle)] == [
        (row.label, row.images, {"ptq": row.right["ptq"]}) for row in read_per_class(measured)
    ]
    Classifier(bundle, "ptq")


def test_variants_that_are_left_out_become_baselines(measured: Bundle, tmp_path: Path) -> None:
    bundle = write_subset(measured, ["ptq"], tmp_path / "one")
    left_out, variant = bundle.manifest.baselines["fp32"], measured.variant("fp32")
    assert (left_out.sha256, left_out.provenance) == (variant.sha256, variant.provenance)
    assert left_out.evaluations == variant.evaluations
    assert bundle.manifest.baselines[START] == measured.manifest.baselines[START]
    card = (bundle.path / MODEL_CARD).read_text("utf-8")
    assert card.startswith("# one\n")
    assert "*fp32*, not in the bundle: recipe fp32" in card


def test_a_packed_variant_that_is_left_out_keeps_its_packed_size(measured: Bundle, tmp_path: Path) -> None:
    whole = packed_copy(measured, tmp_path / "whole", "ptq")
    wire = whole.variant("ptq").wire
    assert wire is not None
    bundle = write_subset(whole, ["fp32"], tmp_path / "one")
    left_out = bundle.manifest.baselines["ptq"]
    assert (left_out.bytes, left_out.wire_bytes) == (measured.variant("ptq").bytes, wire.bytes)
    card = (bundle.path / MODEL_CARD).read_text("utf-8")
    assert f"| *ptq* | int8 | {left_out.bytes / 1e6:.1f} ({wire.bytes / 1e6:.1f} packed) |" in card
    assert "Packed: the size in the bundle, compressed by Zstandard." in card
    assert write_subset(measured, ["fp32"], tmp_path / "other").manifest.baselines["ptq"].wire_bytes is None


def test_the_first_variant_named_is_the_default(small: Bundle, tmp_path: Path) -> None:
    assert small.manifest.default_variant == "ptq"
    for number, names in enumerate((["fp32", "ptq"], ["ptq", "fp32"], ["fp32"])):
        subset = write_subset(small, names, tmp_path / str(number)).manifest
        assert subset.default_variant == names[0]
        assert list(subset.variants.items()) == [v for v in small.manifest.variants.items() if v[0] in names]


@pytest.mark.parametrize("out", ["small", "small/one"])
def test_a_subset_inside_its_own_bundle_is_refused(
    copy: Bundle, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy.path.parent / out
    assert main(["subset", str(copy.path), "--variants", "ptq", "--out", str(path)]) == 2
    assert f"{path} is inside {copy.path}, which would lose its files" in capsys.readouterr().err
    verify(load_bundle(copy.path))


def test_a_subset_of_an_unknown_variant_is_refused(copy: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no variant 'int4'; it has: fp32, ptq"):
        write_subset(copy, ["ptq", "int4"], tmp_path / "one")


def test_the_command_prints_the_size_of_the_subset(
    small: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one"
    assert main(["subset", str(small.path), "--variants", "ptq", "--out", str(out)]) == 0
    size = sum(file.stat().st_size for file in out.iterdir())
    assert capsys.readouterr().out == (
        f"{out}: {size / 1e6:.1f} MB; serve it with EDGEWISE_BUNDLE={out} make serve\n"
    )
