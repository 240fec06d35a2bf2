"""Pruning during quantization-aware training, and the unpruned network that teaches the pruned one.

This follows the two phases, but not the settings, of Kim, Chang, Kwak, "PQK: Model Compression via Pruning,
Quantization, and Knowledge Distillation", Interspeech 2021:

1. The network is trained with fake quantization while more and more of its weights are pruned. The sparsity
   follows the cubic schedule of Zhu and Gupta, "To prune, or not to prune", 2017, which prunes most at the
   beginning. Each time, the weights to prune are chosen again by their magnitude; a pruned weight keeps its
   value, and can come back.
2. The choice is fixed. The unpruned network, which has the same variables with the pruned weights put back,
   is trained along with the pruned one and teaches it. It is discarded when the training ends.

PQK is meant for cases without a trained teacher, and learns from labels. Here there is the float network
before pruning: both learn from it instead of from labels, and the unpruned network is a second teacher that
is closer to the pruned one. The pruned network is fake-quantized, the unpruned one float. Each time weights
are pruned, their layers' biases compensate for the mean shift (`build.quantization.bias_correction`), as in
pruning without training: a few small training steps could not.

The training's result is a moving average of its variables, in which a bias reaches its new value only some
hundreds of steps later: a run of 12 steps has half of the shift in the end, one of 60 three quarters. This is
left so, since it costs nothing that can be measured: for `pruned.toml` on 100 photos, simulated with such
shares, the KL is 1.01 to 1.04, and 1.04 ± 0.07 with the whole shift.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.network.model import LayerWeights, network
from build.quantization.bias_correction import correct_by_means
from build.quantization.fake_quantization import KEPT, WRAPPED, kernel_name, variables_of
from build.quantization.grids import Grid
from build.quantization.pruning import prune
from build.quantization.recipe import Pruning

STEPS_PER_PRUNING = 10
_RAMP = 0.5


@dataclass(frozen=True)
class PruningPlan:
    """How a training prunes; `means`: the `mean_inputs` of all layers with a grid."""

    how: Pruning
    means: Mapping[str, NDArray[np.float32]]


class GradualPruning:
    """Prunes a fake-quantized network before steps of its training.

    Which weights are kept is in the network's variables, and so in its checkpoints. Everything else depends
    only on the step, so a training that resumes prunes exactly like an uninterrupted one.
    """

    def __init__(
        self, model: tf_keras.Model, grids: Mapping[str, Grid], plan: PruningPlan, steps: int
    ) -> None:
        """`model`: a `fake_quantized_network` with these grids; `steps`: of the whole training.

        `is_settled`: a variable that is true once the choice of pruned weights is fixed.
        """
        self.is_settled = tf.Variable(False, trainable=False)
        self._plan = plan
        self._grids = {name: grid for name, grid in grids.items() if grid.kept is not None}
        self._variables = {name: variables_of(model.get_layer(WRAPPED + name)) for name in self._grids}
        self._ramp = min(round((plan.how.ramp or _RAMP) * steps), steps - 1)

    def __call__(self, step: int) -> None:
        """Prune if it is due before `step`, the next one."""
        self.is_settled.assign(step >= self._ramp)
        if step == self._ramp or (step < self._ramp and step % STEPS_PER_PRUNING == 0):
            self._prune(sparsity_at(step, self._ramp, self._plan.how.sparsity))

    def _prune(self, sparsity: float) -> None:
        held = {name: _layer(variables) for name, variables in self._variables.items()}
        kept = {name: variables[KEPT].numpy() for name, variables in self._variables.items()}
        before = {name: replace(grid, kept=kept[name]) for name, grid in self._grids.items()}
        after = prune(held, self._grids, sparsity, keep=())
        had = correct_by_means(held, before, self._plan.means)
        needs = correct_by_means(held, after, self._plan.means)
        for name, variables in self._variables.items():
            variables[KEPT].assign(after[name].kept)
            variables["bias"].assign_add(needs[name].bias - had[name].bias)


def sparsity_at(step: int, ramp: int, final: float) -> float:
    """Return the share of weights that are pruned before a step: `final` from step `ramp` on."""
    left = 1 - min(step / ramp, 1) if ramp else 0
    return final * float(1 - left**3)


def unpruned_network(model: tf_keras.Model, size: int, classes: int) -> tf_keras.Model:
    """Return the float `network` whose kernels and biases are the variables of a fake-quantized one."""
    whole = network(size, classes)
    for layer in whole.layers:
        if name := kernel_name(layer):
            variables = variables_of(model.get_layer(WRAPPED + layer.name))
            setattr(layer, name, variables[name])
            layer.bias = variables["bias"]
    return whole


def _layer(variables: Mapping[str, Any]) -> LayerWeights:
    kernel = variables.get("kernel", variables.get("depthwise_kernel"))
    return LayerWeights(kernel.numpy(), variables["bias"].numpy())
