import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import LayerWeights
from build.network.weights import Network
from build.quantization.convert import convert_int8
from build.quantization.fake_quantization import _GridQuantizer, fake_quantized_network, trained_values
from build.quantization.grids import grids_of, levels_of
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.layer_check import check_layers
from build.quantization.pruning import prune
from build.quantization.recipe import Pruning
from tests.build.conftest import CLASSES, SIZE, SMALL_PTQ
from tests.build.quantization.stored import stored_kernels

PRUNING = Pruning(sparsity=0.7)
RECIPE = SMALL_PTQ.model_copy(
    update={"weight_steps": {"top_conv": 0.002, "block[1-4]*": 0.01, "*": 0.03}, "pruning": PRUNING}
)


@pytest.fixture(scope="module")
def int8(start: Network, representative: NDArray[np.uint8]) -> Int8Network:
    """The small network, pruned without training."""
    return quantize_after_training(RECIPE, start.weights, representative)


def two_layers() -> dict[str, LayerWeights]:
    fine = LayerWeights(np.array([[0.03, -0.5], [0.2, 0.04]], np.float32), np.zeros(2, np.float32))
    coarse = LayerWeights(np.array([[0.6], [-0.9], [3.0], [0.0]], np.float32), np.zeros(1, np.float32))
    return {"fine": fine, "coarse": coarse}


def test_the_smallest_weights_in_steps_of_all_layers_are_pruned() -> None:
    weights = two_layers()
    grids = grids_of(weights, steps={"fine": 0.1, "coarse": 1.0})
    # In steps: 0.3, -5, 2, 0.4 and 0.6, -0.9, 3, 0.
    pruned = prune(weights, grids, 0.5, keep=())
    assert levels_of(weights["fine"], pruned["fine"]).tolist() == [[0, -5], [2, 0]]
    assert levels_of(weights["coarse"], pruned["coarse"]).tolist() == [[0], [-1], [3], [0]]


def test_a_layer_that_is_kept_or_has_no_grid_is_not_pruned() -> None:
    weights = two_layers()
    grids = grids_of(weights, steps={"*": 0.1})
    pruned = prune(weights, grids, 0.5, keep=["f*"])
    assert pruned["fine"].kept is None
    assert pruned["coarse"].kept is not None
    assert pruned["coarse"].kept.reshape(-1).tolist() == [False, True, True, False]
    assert prune(weights, grids_of(weights, steps={"fine": 0.1}), 0.5, keep=()).keys() == {"fine"}


def test_nothing_left_to_prune_is_an_error() -> None:
    weights = two_layers()
    with pytest.raises(BuildError, match="no layer is left to prune; give a grid to one that keep does"):
        prune(weights, grids_of(weights, steps={"fine": 0.1}), 0.5, keep=["fine"])
    with pytest.raises(BuildError, match="no layer is left to prune"):
        prune(weights, {}, 0.5, keep=())


def test_a_sparsity_of_0_prunes_no_weight() -> None:
    weights = two_layers()
    pruned = prune(weights, grids_of(weights, steps={"*": 0.1}), 0.0, keep=())
    assert all(grid.kept is not None and grid.kept.all() for grid in pruned.values())


def test_pruned_weights_are_zero_in_the_file(start: Network, int8: Int8Network) -> None:
    stored = stored_kernels(convert_int8(int8, SIZE))
    pruned = zeros = weights = 0
    for name, layer in start.weights.items():
        kept, (levels, scales) = int8.grids[name].kept, stored[name]
        assert (scales == int8.grids[name].step).all(), name
        if kept is None:
            assert name == "stem_conv" or name.startswith(("block1", "block2", "block3")) or "_dw" in name
            continue
        levels = levels.reshape(layer.kernel.shape)
        assert not levels[~kept].any(), name
        pruned, zeros = pruned + (~kept).sum(), zeros + (levels == 0).sum()
        weights += levels.size
    assert pruned / weights == pytest.approx(0.7, abs=1e-4)
    assert pruned <= zeros < 0.9 * weights


def test_pruning_corrects_the_biases_of_pruned_layers_only(
    start: Network, int8: Int8Network, representative: NDArray[np.uint8]
) -> None:
    unpruned = RECIPE.model_copy(update={"pruning": None})
    rounded = quantize_after_training(unpruned, start.weights, representative)
    for name, grid in int8.grids.items():
        moved = (int8.weights[name].bias != rounded.weights[name].bias).any()
        assert moved == (grid.kept is not None), name


def test_a_recipe_that_trains_starts_unpruned(start: Network, representative: NDArray[np.uint8]) -> None:
    training = {"training": {"epochs": 1, "learning_rate": 1e-4}}
    recipe = type(RECIPE).model_validate(RECIPE.model_dump() | training | {"pruning": {"sparsity": 0.7}})
    begin = quantize_after_training(recipe, start.weights, representative)
    assert all(grid.kept is None or grid.kept.all() for grid in begin.grids.values())
    assert begin.grids["predictions"].kept is not None
    assert begin.grids["stem_conv"].kept is None


def test_the_fake_quantized_network_is_pruned_like_the_file(
    int8: Int8Network, representative: NDArray[np.uint8]
) -> None:
    model = fake_quantized_network(int8, SIZE)
    held = trained_values(model, SIZE, len(CLASSES))
    for name, grid in int8.grids.items():
        found = held.grids[name].kept
        assert (grid.kept is None and found is None) or (grid.kept == found).all(), name
    check_layers(convert_int8(int8, SIZE), model, representative[0])


def test_a_pruned_weight_is_zero_and_has_no_gradient() -> None:
    quantizer = _GridQuantizer(3, [0.5, 2.0], is_pruned=True, is_depthwise=False)
    kernel, kept = tf.constant([[0.6, 1.0], [1.4, -4.0]]), tf.constant([[True, False], [False, True]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = quantizer(kernel, True, {"kept": kept})
        total = tf.reduce_sum(rounded)
    assert rounded.numpy().tolist() == [[0.5, 0], [0, -4]]
    assert tape.gradient(total, kernel).numpy().tolist() == [[1, 0], [0, 1]]
