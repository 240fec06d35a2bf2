import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.network.model import (
    LayerWeights,
    Place,
    Site,
    Weights,
    leave,
    network,
    set_weights,
    with_pixel_input,
)
from build.network.weights import Network
from build.photos.data import sample
from build.quantization.convert import fake_quantize
from build.quantization.grids import converter_grids, on_grids
from build.quantization.ranges import INPUT_RANGE, SIGMOID_RANGE, Range
from build.quantization.sensitivity import (
    ALL_WEIGHTS,
    EVERYTHING,
    KINDS,
    Group,
    SwitchedNetwork,
    groups_of,
    photos_apart,
)
from service.bundle.folder import Bundle
from tests.build.conftest import CLASSES, SIZE
from tests.build.quantization.interpreters import interpreter_without_delegate, kernels_of

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def ranges() -> dict[str, Range]:
    """An arbitrary range for every activation."""
    found: dict[str, Range] = {}

    def note(name: str, site: Site, tensor: Any) -> Any:
        found[name] = {Site.INPUT: INPUT_RANGE, Site.SIGMOID: SIGMOID_RANGE}.get(site, Range(-3.0, 5.0))
        return tensor

    network(SIZE, len(CLASSES), note)
    return found


@pytest.fixture(scope="module")
def switched(start: Network, ranges: dict[str, Range]) -> SwitchedNetwork:
    return SwitchedNetwork(start.weights, SIZE, ranges)


@pytest.fixture(scope="module")
def groups(switched: SwitchedNetwork, start: Network) -> dict[str, Group]:
    return groups_of(switched.sites, list(start.weights))


def answers(switched: SwitchedNetwork, pixels: Pixels) -> NDArray[np.float64]:
    with tqdm(disable=True) as progress:
        return switched.log_probabilities(pixels, progress)


def plain(weights: Weights, place: Place, pixels: Pixels) -> NDArray[np.float64]:
    """The answers of a network without switches."""
    model = network(SIZE, len(CLASSES), place)
    set_weights(model, weights)
    logits = with_pixel_input(model)(pixels.astype(np.float32)).numpy().astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def float_answers(start: Network, pixels: Pixels) -> NDArray[np.float64]:
    return plain(start.weights, leave, pixels)


def rounded(weights: Weights) -> Weights:
    return on_grids(weights, converter_grids(weights))


def place_of(ranges: dict[str, Range], site: Site) -> Place:
    """Quantize the tensors of one kind only."""
    quantize = fake_quantize(ranges)
    return lambda name, at, tensor: quantize(name, at, tensor) if at is site else tensor


def test_every_tensor_is_in_one_block_and_at_most_one_kind(
    groups: dict[str, Group], switched: SwitchedNetwork, start: Network
) -> None:
    kinds = [groups[name] for name in KINDS.values()]
    blocks = [groups[name] for name in groups if name not in (*KINDS.values(), ALL_WEIGHTS, EVERYTHING)]
    of_kinds = [name for group in kinds for name in group.activations]
    # The pixels lose nothing in int8, so they are in no kind.
    assert sorted([*of_kinds, "input"]) == sorted(switched.sites)
    assert sorted(name for group in blocks for name in group.activations) == sorted(switched.sites)
    assert sorted(name for group in blocks for name in group.kernels) == sorted(start.weights)
    assert all(group.activations and group.kernels for group in blocks)
    assert groups[EVERYTHING] == Group(frozenset(switched.sites), frozenset(start.weights))
    assert groups[ALL_WEIGHTS] == Group(frozenset(), frozenset(start.weights))


def test_blocks_go_from_the_stem_to_the_head(groups: dict[str, Group]) -> None:
    first, *between, last = [name for name in groups if name in ("stem", "head") or name.startswith("block")]
    assert (first, last) == ("stem", "head")
    assert between == sorted(between)
    assert (between[0], between[-1], len(between)) == ("block1a", "block6h", 21)


def test_with_nothing_quantized_it_is_the_float_network(
    switched: SwitchedNetwork, groups: dict[str, Group], pixels: Pixels, float_answers: NDArray[np.float64]
) -> None:
    switched.quantize(groups[EVERYTHING])
    quantized = answers(switched, pixels)
    switched.quantize(Group(frozenset(), frozenset()))
    np.testing.assert_allclose(answers(switched, pixels), float_answers, atol=1e-4)
    assert np.abs(quantized - float_answers).max() > 1e-2


@pytest.mark.parametrize("name", ["SiLU outputs", EVERYTHING])
def test_only_the_given_group_is_quantized(
    switched: SwitchedNetwork,
    groups: dict[str, Group],
    start: Network,
    ranges: dict[str, Range],
    pixels: Pixels,
    float_answers: NDArray[np.float64],
    name: str,
) -> None:
    switched.quantize(groups["block4a"])  # An earlier group must have no effect.
    switched.quantize(groups[name])
    actual = answers(switched, pixels)
    if name == EVERYTHING:
        expected = plain(rounded(start.weights), fake_quantize(ranges), pixels)
    else:
        expected = plain(start.weights, place_of(ranges, Site.SILU), pixels)
    # The two graphs add in different orders, so a value may round to the next level.
    assert np.abs(actual - expected).mean() < 0.2 * np.abs(expected - float_answers).mean()


def test_a_kernel_is_rounded_as_the_converter_rounds_it(small: Bundle, start: Network) -> None:
    interpreter = interpreter_without_delegate(small.variant_path("ptq"))
    kernels = kernels_of(interpreter)
    for name, operator, axes in (
        ("block4a_expand_conv", "Conv2D", (1, 2, 3, 0)),
        ("block4a_dwconv2", "depthwise", (1, 2, 3, 0)),
        ("predictions", "MatMul", (1, 0)),
    ):
        (tensor,) = (t for t in kernels if f"/{name}/{operator}" in t["name"])
        quantization = tensor["quantization_parameters"]
        shape = np.where(np.arange(len(axes)) == quantization["quantized_dimension"], -1, 1)
        values = interpreter.get_tensor(tensor["index"]) * quantization["scales"].reshape(shape)
        layer = start.weights[name]
        actual = rounded({name: layer})[name].kernel
        np.testing.assert_allclose(actual, values.transpose(axes), rtol=1e-6, atol=1e-9)
        assert np.abs(actual - layer.kernel).max() > 0


def test_a_channel_of_zeros_stays_so() -> None:
    kernel = np.array([[0, 1], [0, -0.3]], np.float32)
    step = 1 / 127
    expected = [[0, 1], [0, -38 * step]]
    actual = rounded({"layer": LayerWeights(kernel, np.zeros(2, np.float32))})["layer"].kernel
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_no_photo_is_both_calibrated_and_measured_on(calibration: Path, tmp_path: Path) -> None:
    # Every photo is there twice, in two folders.
    shutil.copytree(calibration, tmp_path / "photos" / "a")
    shutil.copytree(calibration, tmp_path / "photos" / "b")
    calibrated, others = photos_apart(tmp_path / "photos", 500, 100)
    digests = [photo.sha256 for photo in (*calibrated.photos, *others.photos)]
    assert len(digests) == len(set(digests)) == 48
    assert (len(calibrated.photos), len(others.photos)) == (24, 24)


@pytest.mark.parametrize(
    ("representative", "images", "expected"), [(16, 8, (16, 8)), (500, 10, (38, 10)), (500, 40, (24, 24))]
)
def test_at_most_half_of_the_photos_are_measured_on(
    calibration: Path, representative: int, images: int, expected: tuple[int, int]
) -> None:
    calibrated, others = photos_apart(calibration, representative, images)
    assert (len(calibrated.photos), len(others.photos)) == expected


def test_the_calibration_photos_are_those_that_a_recipe_would_take(calibration: Path) -> None:
    calibrated, _ = photos_apart(calibration, 16, 8)
    assert calibrated == sample(calibration, 16)


def test_too_few_photos_are_refused(calibration: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(calibration.rglob("*.jpg"))[:3]):
        shutil.copy(path, tmp_path / f"{index}.jpg")
        shutil.copy(path, tmp_path / f"{index}-again.jpg")
    with pytest.raises(BuildError, match="holds 3 different photos; give at least 4"):
        photos_apart(tmp_path, 500, 100)
