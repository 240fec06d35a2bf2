"""A network and recipes → the variants' `.tflite` files, and a bundle of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.assembly.assemble import About, Model, assemble
from build.errors import BuildError
from build.network.architecture import ARCHITECTURE
from build.network.weights import Network
from build.photos.data import Photo, PhotoSet, seen_keys, without_repeats
from build.photos.pixels import pixels_of
from build.quantization.bias_correction import mean_inputs
from build.quantization.convert import convert, convert_int8
from build.quantization.grids import check_patterns, has_grid
from build.quantization.int8 import check_blocks, quantize_after_training
from build.quantization.layer_check import check_layers
from build.quantization.pruning import pruned_layers
from build.quantization.recipe import QuantizationAwareTraining, Recipe
from build.training.fine_tuning import training_record
from build.training.pruning import PruningPlan
from build.training.qat import train_quantized
from build.training.schedule import Schedule
from build.versions import tool_versions
from service.bundle.folder import Bundle
from service.bundle.manifest import Precision, Provenance, Training
from service.host.ending import print_notice


@dataclass(frozen=True)
class TrainingPlan:
    """The photos, the folder for checkpoints and the seed of recipes that train.

    `sets`: where the photos come from, for the records; `photos` are trained on, `validation` gives the
    losses. Checkpoints are in `runs`, in one folder per recipe.
    """

    sets: Sequence[PhotoSet]
    photos: Sequence[Photo]
    validation: Sequence[Photo]
    runs: Path
    seed: int = 0

    def folder(self, recipe: Recipe) -> Path:
        """Return the folder for a recipe's checkpoints."""
        return self.runs / f"recipe-{recipe.name}"

    def schedule(self, how: QuantizationAwareTraining) -> Schedule:
        """Return how long and how fast a recipe trains."""
        return Schedule(how.epochs, how.batch_size, how.learning_rate, self.seed)


def quantize(
    network: Network,
    recipes: Sequence[Recipe],
    calibration: PhotoSet,
    command: str,
    path: Path,
    plan: TrainingPlan | None = None,
    beside: Bundle | None = None,
) -> Bundle:
    """Make every recipe's variant of a network and write them as a bundle named after its folder.

    The last int8 variant becomes the default. A recipe that asks for more representative photos than there
    are gets all of them. `plan` is needed if a recipe trains. `beside`, a bundle of the same network,
    contributes its other variants and its default.

    Raises:
        BuildError: training is impossible, or a file does not compute what it should.
        BundleError: the bundle can't be written.
    """
    models = make_models(network, recipes, calibration, command, plan)
    int8 = [recipe.name for recipe in recipes if recipe.precision is Precision.INT8]
    default = beside.manifest.default_variant if beside else [recipes[-1].name, *int8][-1]
    about = About(path.absolute().name, ARCHITECTURE, network.licence, default)
    used = [*calibration.photos, *without_repeats(plan.sets if plan else ())]
    return assemble(
        models,
        about,
        network.classes,
        network.preprocessing,
        path,
        training=network.training,
        seen_images=network.seen_images.union(seen_keys(used), *(recipe.searched_on for recipe in recipes)),
        beside=beside,
    )


def check_fit(network: Network, recipes: Sequence[Recipe]) -> None:
    """Check that the network has all layers and blocks that recipes name, before work that takes hours.

    Raises:
        BuildError: one is missing, which the message names, or a recipe that prunes leaves no layer to prune.
    """
    for recipe in recipes:
        keep = recipe.pruning.keep if recipe.pruning else ()
        check_patterns(network.weights, [*recipe.weight_bits, *recipe.weight_steps, *keep])
        check_blocks(network.weights, recipe.float_blocks)
        if recipe.pruning:
            bits, steps = recipe.weight_bits, recipe.weight_steps
            pruned_layers([name for name in network.weights if has_grid(name, bits, steps)], keep)


def report_too_few(recipes: Sequence[Recipe], photos: int) -> None:
    """Report on standard error which recipes ask for more representative photos than there are."""
    for recipe in recipes:
        if recipe.representative_images > photos:
            wanted = recipe.representative_images
            print_notice(f"{recipe.name} asks for {wanted} representative photos, but gets {photos}")


def make_models(
    network: Network,
    recipes: Sequence[Recipe],
    calibration: PhotoSet,
    command: str,
    plan: TrainingPlan | None,
) -> list[Model]:
    """Make every recipe's variant, in the recipes' order.

    Raises:
        BuildError: as for `quantize`.
    """
    check_fit(network, recipes)
    report_too_few(recipes, len(calibration.photos))
    pixels = pixels_of(calibration, network.preprocessing)
    models = []
    for recipe in tqdm(recipes, desc="variants", unit="variant"):
        representative = pixels[: recipe.representative_images]
        if recipe.training is None:
            training = None
            content = convert(recipe, network.weights, network.preprocessing.height, representative)
        elif plan is None:
            raise BuildError(f"the recipe {recipe.name} trains; it needs photos to train on")
        else:
            content, training = _train(network, recipe, recipe.training, representative, command, plan)
        used = replace(calibration, photos=calibration.photos[: recipe.representative_images])
        provenance = Provenance(
            command=command,
            recipe={**recipe.settings(), **network.origin},
            tools=tool_versions(),
            calibration=used.image_set if used.photos else None,
            training=training,
        )
        packed = recipe.wire is not None
        models.append(
            Model(
                recipe.name,
                content,
                recipe.precision,
                provenance,
                packed=packed,
                dynamic_range=recipe.dynamic_range,
            )
        )
    return models


def _train(
    network: Network,
    recipe: Recipe,
    how: QuantizationAwareTraining,
    representative: NDArray[np.uint8],
    command: str,
    plan: TrainingPlan,
) -> tuple[bytes, Training]:
    """Run quantization-aware training, and return the file of its result with the training record."""
    schedule = plan.schedule(how)
    start = quantize_after_training(recipe, network.weights, representative)
    pruning = None
    if recipe.pruning:
        pruning = PruningPlan(recipe.pruning, mean_inputs(network.weights, list(start.grids), representative))
    trained = train_quantized(
        network.weights,
        start,
        plan.photos,
        plan.validation,
        network.preprocessing,
        schedule,
        how.range_rate,
        plan.folder(recipe),
        pruning,
    )
    content = convert_int8(trained.values, network.preprocessing.height)
    check_layers(content, trained.model, representative[0])
    return content, training_record(network, plan.sets, schedule, trained, command, "quantization-aware")
