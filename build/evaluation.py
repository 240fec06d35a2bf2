"""Accuracy of a bundle's variants, written into its manifest."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from build.data import PhotoSet
from build.recipe import load_recipe
from build.variants import quantize
from build.weights import Network
from service.bundle import Bundle, bundle_files, write_bundle
from service.inference.evaluation import BASELINE, Candidate, evaluate
from service.inference.image import Crop
from service.inference.labelled import LabelledImage
from service.manifest import Baseline, Evaluation

START = "start"
START_DESCRIPTION = "the weights that training started from, in float32"


def record_evaluation(
    bundle: Bundle,
    images: Sequence[LabelledImage],
    dataset_name: str,
    crop: Crop,
    *,
    allow_seen: bool = False,
    start: Network | None = None,
) -> Bundle:
    """Evaluate every variant on labelled images and write the bundle with the results.

    An evaluation on the same images with the same crop is replaced. The first on images that the
    network has not seen becomes the reference. `start`: the network before training, measured
    beside the variants as a baseline that is not in the bundle.

    Raises:
        DatasetError: there are no images, one can't be read, or the network has seen some of them
            and `allow_seen` is not set.
    """
    with tempfile.TemporaryDirectory() as scratch:
        candidates = {name: Candidate(bundle, name) for name in bundle.manifest.variants}
        if start is not None:
            recipe = load_recipe(BASELINE)
            before = quantize(start, [recipe], PhotoSet(START, ()), START, Path(scratch) / START)
            candidates[START] = Candidate(before, BASELINE)
        evaluations = evaluate(
            candidates, images, crop, dataset_name, allow_seen=allow_seen, progress=_progress
        )
    manifest = bundle.manifest
    variants = {
        name: variant.model_copy(update={"evaluations": _merged(variant.evaluations, evaluations[name])})
        for name, variant in manifest.variants.items()
    }
    baselines = dict(manifest.baselines)
    if start is not None:
        earlier = baselines[START].evaluations if START in baselines else ()
        baselines[START] = Baseline(
            description=START_DESCRIPTION,
            bytes=before.variant(BASELINE).bytes,
            evaluations=_merged(earlier, evaluations[START]),
        )
    updated = manifest.model_copy(update={"variants": variants, "baselines": baselines})
    return write_bundle(bundle.path, updated, bundle_files(bundle))


def _merged(earlier: Sequence[Evaluation], new: Evaluation) -> tuple[Evaluation, ...]:
    kept = [e for e in earlier if (e.dataset.sha256, e.crop) != (new.dataset.sha256, new.crop)]
    reference = new.seen_images == 0 and not any(e.reference for e in kept)
    return (*kept, new.model_copy(update={"reference": reference}))


def _progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    shown: Iterable[LabelledImage] = tqdm(images, desc=variant, unit="image", dynamic_ncols=True)
    return shown
