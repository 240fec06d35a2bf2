"""The manifest's schema and what it refuses."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel, TypeAdapter, ValidationError

from service.bundle.folder import Bundle
from service.bundle.manifest import (
    Comparison,
    Evaluation,
    FileName,
    GoldenTolerance,
    ImageSet,
    InputTensor,
    Latency,
    Manifest,
    Preprocessing,
    Provenance,
    Resize,
    Tensor,
    VariantName,
    comparison_with,
    manifest_schema,
)
from service.measuring.evaluation import proportion

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "manifest.schema.json"

texts = st.text(max_size=20)
ratios = st.floats(0, 1)
seconds = st.floats(0, 1e6)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
proportions = st.builds(
    lambda total, share: proportion(int(share * total), total), st.integers(1, 10**6), ratios
)
image_sets = st.builds(ImageSet, name=texts, images=st.integers(1, 10**9), sha256=digests)
comparisons = st.builds(
    Comparison,
    against=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
    agreement=proportions,
    kl_nats=seconds,
    lost=st.integers(0, 10**6),
    won=st.integers(0, 10**6),
)
models: SearchStrategy[BaseModel] = st.one_of(
    st.builds(
        Evaluation,
        dataset=image_sets,
        crop=st.sampled_from(["bundle", "none"]),
        seen_images=st.integers(0, 10**6),
        top1=proportions,
        runtime=texts,
        delegate=texts,
        tools=st.dictionaries(texts, texts, max_size=2),
        top5=proportions,
        ece=ratios,
        comparisons=st.lists(comparisons, max_size=3).map(tuple),
        reference=st.booleans(),
    ),
    st.builds(
        Latency,
        machine=texts,
        runtime=texts,
        delegate=texts,
        runs=st.integers(1, 10**6),
        p50_seconds=seconds,
        p99_seconds=seconds,
    ),
    st.builds(GoldenTolerance, largest=seconds, share=ratios),
    st.builds(
        Provenance,
        command=texts,
        # No floats: 1.0 would come back as an int.
        recipe=st.dictionaries(texts, texts | st.booleans() | st.integers(-(10**9), 10**9), max_size=3),
        tools=st.dictionaries(texts, texts, max_size=3),
        calibration=st.none() | image_sets,
    ),
    st.builds(
        Tensor,
        dtype=st.sampled_from(["uint8", "int8", "float32"]),
        shape=st.lists(st.integers(1, 10**6), min_size=2, max_size=4).map(tuple),
        scale=st.none() | st.floats(0, 1e6, exclude_min=True),
        zero_point=st.none() | st.integers(-128, 255),
    ),
)


@given(models)
def test_json_keeps_every_value(model: BaseModel) -> None:
    for json in (model.model_dump_json(), model.model_dump_json(exclude_defaults=True)):
        assert type(model).model_validate_json(json) == model


def test_a_whole_manifest_survives_json(colours: Bundle) -> None:
    assert Manifest.model_validate_json(colours.manifest.model_dump_json()) == colours.manifest


@given(st.text(max_size=30) | st.from_regex(r"[A-Za-z0-9._/\\-]{1,30}", fullmatch=True))
def test_no_file_name_leaves_the_folder(name: str) -> None:
    try:
        TypeAdapter(FileName).validate_python(name)
    except ValidationError:
        return
    folder = Path("/bundle")
    assert (folder / name).resolve().parent == folder
    assert not name.startswith(".")
    assert name.isascii()
    assert not any(c.isspace() for c in name)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/etc/passwd", "a/b", "../x", "a\\b", "a\n", "-x", ".x", "ä"]
)
def test_bad_file_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FileName).validate_python(name)


@pytest.mark.parametrize("name", ["", "FP32", "a b", "a.b", "-a", "_a", "a" * 65, "a\n"])
def test_bad_variant_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(VariantName).validate_python(name)


def wire(file: str) -> dict[str, object]:
    return {"file": file, "sha256": "0" * 64, "bytes": 1}


@pytest.fixture
def fields(colours: Bundle) -> dict[str, Any]:
    return colours.manifest.model_dump(mode="json")


def test_the_fields_are_valid_as_they_are(fields: dict[str, Any], colours: Bundle) -> None:
    assert Manifest.model_validate(fields) == colours.manifest


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (["unknown"], 1, "Extra inputs"),
        (["variants", "ptq", "unknown"], 1, "Extra inputs"),
        (["schema_version"], 1, "Input should be 2"),
        (["name"], "../x", "should match pattern"),
        (["default_variant"], "nope", "'nope' is not among the variants"),
        (["variants"], {}, "at least 1 item"),
        (["variants", "ptq", "file"], "../ptq.tflite", "should match pattern"),
        (["variants", "ptq", "file"], "fp32.tflite", r"named more than once: fp32\.tflite"),
        (["variants", "ptq", "file"], "labels.txt", r"named more than once: labels\.txt"),
        (["variants", "ptq", "file"], "manifest.json", r"named more than once: manifest\.json"),
        (["variants", "ptq", "file"], "manifest.sig", r"named more than once: manifest\.sig"),
        (["variants", "ptq", "wire"], wire("../ptq.tflite.zst"), "should match pattern"),
        (["variants", "ptq", "wire"], wire("fp32.tflite"), r"named more than once: fp32\.tflite"),
        (["variants", "ptq", "wire"], wire("ptq.tflite.zst") | {"bytes": 0}, "greater than 0"),
        (["variants", "ptq", "sha256"], "0" * 63, "should match pattern"),
        (["variants", "ptq", "bytes"], 0, "greater than 0"),
        (["variants", "ptq", "precision"], "int9", "Input should be"),
        (["variants", "ptq", "input", "shape"], [1, 32, 33, 3], "ptq: input shape"),
        (["variants", "ptq", "input", "std"], 0, "greater than 0"),
        (["variants", "ptq", "input", "mean"], float("nan"), "finite"),
        (["variants", "ptq", "input", "mean"], [1, 2], "Field required"),
        (["variants", "ptq", "input", "std"], [1, 2, 0], "greater than 0"),
        (["variants", "ptq", "output", "shape"], [1, 6], "ptq: output shape"),
        (["variants", "ptq", "output", "kind"], "guesses", "Input should be"),
        (["variants", "ptq", "golden", "share"], 1.5, "less than or equal to 1"),
        (["classes"], 6, "output shape"),
        (["preprocessing", "crop_fraction"], 0, "greater than 0"),
        (["preprocessing", "filter"], "sinc", "Input should be"),
        (["preprocessing", "width"], 31, "input shape"),
        (["files", "labels.txt"], "none", "should match pattern"),
        (["files", "../x"], "0" * 64, "should match pattern"),
    ],
)
def test_an_invalid_value_is_refused(
    fields: dict[str, Any], where: list[str], value: object, message: str
) -> None:
    inner = fields
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(fields)


@pytest.mark.parametrize("name", ["labels.txt", "golden.npz"])
def test_a_missing_required_file_is_refused(fields: dict[str, Any], name: str) -> None:
    del fields["files"][name]
    with pytest.raises(ValidationError, match=f"files lacks {name}"):
        Manifest.model_validate(fields)


def test_the_schema_version_is_required(fields: dict[str, Any]) -> None:
    del fields["schema_version"]
    with pytest.raises(ValidationError, match="schema_version"):
        Manifest.model_validate(fields)


def test_a_comparison_is_found_by_the_other_variants_name() -> None:
    others = [
        Comparison(against=name, agreement=proportion(1, 2), kl_nats=0, lost=lost, won=0)
        for lost, name in enumerate(("fp32", "ptq"))
    ]
    evaluation = Evaluation.model_construct(comparisons=tuple(others))
    assert comparison_with(evaluation, "ptq") == others[1]
    assert comparison_with(evaluation, "qat") is None


def test_the_json_schema_in_the_documents_is_current() -> None:
    renew = "renew it: python -m service.bundle.manifest > docs/manifest.schema.json"
    assert SCHEMA.read_text("utf-8") == manifest_schema(), renew


def test_the_json_schema_is_printed() -> None:
    command = [sys.executable, "-m", "service.bundle.manifest"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    assert result.stdout == manifest_schema()


def test_a_squashed_image_is_not_cropped() -> None:
    squash = {"height": 8, "width": 8, "resize": Resize.SQUASH, "filter": "box"}
    assert Preprocessing.model_validate(squash).crop_fraction == 1
    with pytest.raises(ValidationError, match="crop_fraction must be 1"):
        Preprocessing.model_validate(squash | {"crop_fraction": 0.9})


def test_three_equal_values_become_one() -> None:
    plain = {"dtype": "uint8", "shape": (1, 8, 8, 3)}
    same = InputTensor.model_validate(plain | {"mean": [0, 0, 0], "std": [1, 1, 1]})
    assert same == InputTensor.model_validate(plain)
    assert same.takes_pixels
    differing = InputTensor(dtype="float32", shape=(1, 8, 8, 3), mean=(1, 1, 2), std=(3, 3, 3))
    assert (differing.mean, differing.std) == ((1, 1, 2), 3)


def test_a_manifest_can_not_be_changed(colours: Bundle) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        colours.manifest.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        colours.variant("ptq").bytes = 1
