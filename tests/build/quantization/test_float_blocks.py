"""Blocks that are computed in float within an int8 file."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from build.assembly.variants import quantize
from build.errors import BuildError
from build.network.model import Weights, block_of, network, normalise, set_weights, within
from build.network.weights import Network
from build.photos.data import sample
from build.quantization.convert import fake_quantize
from build.quantization.grids import converter_grids, on_grids
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.layer_names import layer_of
from build.quantization.ranges import Range
from service.bundle.folder import Bundle, verify
from service.bundle.manifest import Precision
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE, SMALL_PTQ
from tests.delegates import by_each_built_in

# The first has no squeeze-and-excite and no residual connection, the second has both.
BLOCKS = ("block2a", "block6h")
MIXED = SMALL_PTQ.model_copy(
    update={"name": "mixed", "float_blocks": BLOCKS, "weight_bits": {"block6*": 4, "block2a_*": 4}}
)


@pytest.fixture(scope="module")
def bundle(start: Network, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("mixed") / "mixed"
    return quantize(start, [MIXED], sample(calibration, REPRESENTATIVE), "python -m build quantize", path)


@pytest.fixture(scope="module")
def int8(start: Network, representative: NDArray[np.uint8]) -> Int8Network:
    return quantize_after_training(MIXED, start.weights, representative)


def test_the_output_of_a_block_is_not_within_it(ranges: dict[str, Range]) -> None:
    inside = within(["block2a", "block6h"], list(ranges))
    assert {block_of(name) for name in inside} == {"block2a", "block6h"}
    outputs = {name for name in ranges if block_of(name) in BLOCKS} - inside
    assert outputs == {"block2a_project_conv", "block6h_add"}


def test_the_blocks_operators_are_float_and_all_others_int8(bundle: Bundle) -> None:
    model = schema.ModelT.InitFromPackedBuf(bundle.variant_path("mixed").read_bytes(), 0)
    (graph,) = model.subgraphs
    in_float, in_int8 = set(), set()
    for operator in graph.operators:
        weights = [graph.tensors[i] for i in operator.inputs if i >= 0 and len(graph.tensors[i].shape) == 4]
        stored = [t for t in weights if model.buffers[t.buffer].data is not None]
        layer = layer_of(graph.tensors[operator.outputs[0]].name)
        if stored:
            is_float = stored[0].type == schema.TensorType.FLOAT32
            (in_float if is_float else in_int8).add(layer)
            types = {graph.tensors[i].type for i in (operator.inputs[0], operator.outputs[0])}
            assert types == {schema.TensorType.FLOAT32 if is_float else schema.TensorType.INT8}, layer
    assert {block_of(layer) for layer in in_float} == set(BLOCKS)
    assert not {block_of(layer) for layer in in_int8} & set(BLOCKS)
    assert len(in_float | in_int8) == 75 + 16
    types = [graph.tensors[i].type for i in (graph.inputs[0], graph.outputs[0])]
    assert types == [schema.TensorType.UINT8, schema.TensorType.INT8]


def test_the_bundle_records_the_precision_and_the_float_blocks(bundle: Bundle) -> None:
    verify(bundle)
    variant = bundle.variant("mixed")
    assert variant.precision is Precision.MIXED
    assert variant.provenance is not None
    assert variant.provenance.recipe["float_blocks"] == "block2a block6h"


@by_each_built_in
def test_the_file_computes_the_same_as_a_network_with_those_float_blocks(
    bundle: Bundle, int8: Int8Network, representative: NDArray[np.uint8], delegate: Delegate
) -> None:
    model = network(SIZE, len(CLASSES), fake_quantize(int8.ranges))
    set_weights(model, stored(int8))
    expected = model(normalise(representative)).numpy()
    classifier = Classifier(bundle, "mixed", delegate)
    actual = np.stack([classifier.scores(pixels) for pixels in representative])
    step = Interpreter(str(bundle.variant_path("mixed"))).get_output_details()[0]["quantization"][0]
    assert expected.std() > 25 * step
    # As in an int8 file, a few different roundings in the first layers add up.
    assert np.abs(actual - expected).mean() < 15 * step


def stored(int8: Int8Network) -> Weights:
    """The kernels as stored in the file: on grids, rounded by the converter, or in float."""
    weights = on_grids(int8.weights, int8.grids)
    others = {
        name: layer
        for name, layer in weights.items()
        if block_of(name) not in BLOCKS and name not in int8.grids
    }
    return weights | on_grids(others, converter_grids(others))


def test_weights_of_float_blocks_have_no_grid(int8: Int8Network, start: Network) -> None:
    assert {block_of(name) for name in int8.grids} == {"block6" + letter for letter in "abcdefg"}
    kernel = int8.weights["block6h_expand_conv"].kernel
    assert (kernel == start.weights["block6h_expand_conv"].kernel).all()


def test_an_unknown_block_is_refused(start: Network, representative: NDArray[np.uint8]) -> None:
    recipe = MIXED.model_copy(update={"float_blocks": ("block9a",)})
    with pytest.raises(BuildError, match="float_blocks has block9a, but the network has block1a, block2a, "):
        quantize_after_training(recipe, start.weights, representative)
