"""`python -m tests.bench.engines CALIBRATION EVALUATION`: compare LiteRT with ONNX Runtime and OpenVINO.

All run the default bundle's network on the same photos. The other engines' int8 is calibrated on the same
photos of CALIBRATION as `ptq`. Markdown is printed on standard output; see docs/engines.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from build.evidence.tables import described_images
from build.photos.data import PhotoSet, labelled_photos, refuse_overlap, sample
from build.photos.pixels import pixels_of
from service.bundle.folder import Bundle, load_bundle
from service.errors import EdgewiseError
from service.host.cpu import processors
from service.images.pixels import Crop
from service.inference.divergence import kl_nats
from service.inference.golden import read_golden_vectors
from service.measuring.labelled import image_set
from service.settings import DEFAULT_BUNDLE
from tests.bench.engines import report
from tests.bench.engines.candidates import (
    METHODS,
    PRESETS,
    Candidate,
    of_bundle,
    onnx_int8,
    openvino_int8,
    to_onnx,
)
from tests.bench.engines.measure import TURN, answers, latencies, quality, size


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison of the command line."""
    options = _parser().parse_args(arguments)
    try:
        bundle = load_bundle(DEFAULT_BUNDLE)
        calibration = sample(options.calibration, options.representative)
        apart = _apart(options.calibration, calibration, options.apart)
        evaluation = labelled_photos(options.evaluation, bundle.classes)
        refuse_overlap([calibration, apart], evaluation, bundle.seen_images)
        with tempfile.TemporaryDirectory(prefix="edgewise-engines-") as scratch:
            folder = Path(scratch)
            candidates = _candidates(bundle, calibration, apart, folder)
            _compare(bundle, candidates, evaluation, options, folder)
    except (BuildError, EdgewiseError) as error:
        raise SystemExit(str(error)) from None


def _apart(folder: Path, calibration: PhotoSet, count: int) -> PhotoSet:
    """Return other photos of the folder, to choose a calibration method by."""
    drawn = sample(folder, len(calibration.photos) + count, [calibration])
    known = {photo.sha256 for photo in calibration.photos}
    others = tuple(photo for photo in drawn.photos if photo.sha256 not in known)
    if not others:
        raise BuildError(
            f"{folder} has no photos other than those to calibrate on; use fewer with --representative"
        )
    return PhotoSet(drawn.name, others)


def _candidates(bundle: Bundle, calibration: PhotoSet, apart: PhotoSet, folder: Path) -> list[Candidate]:
    """Return all candidates; of ONNX Runtime's int8, the one with the least KL on the photos held apart."""
    preprocessing = bundle.manifest.preprocessing
    photos = pixels_of(calibration, preprocessing)
    known, float32 = of_bundle(bundle), bundle.variant_path("fp32")
    onnx = to_onnx(float32, folder)
    with redirect_stdout(sys.stderr):  # Both quantizers print their progress.
        by_method = [onnx_int8(onnx.files[0], folder, photos, method) for method in METHODS]
        by_preset = [openvino_int8(float32, folder, photos, preset) for preset in PRESETS]
    others = _saved(folder / "apart.npy", pixels_of(apart, preprocessing))
    expected = answers(known[0], others, others, folder / "logits.npy").probabilities
    divergences = {
        candidate: float(
            kl_nats(expected, answers(candidate, others, others, folder / "logits.npy").probabilities).mean()
        )
        for candidate in (*by_method, *by_preset)
    }
    shown = ", ".join(f"{candidate.name} {nats:.4f}" for candidate, nats in divergences.items())
    _show(f"KL, nats, on {len(apart.photos)} photos of {apart.name} held apart: {shown}.")
    return [*known, onnx, min(by_method, key=divergences.__getitem__), *by_preset]


def _compare(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    evaluation: PhotoSet,
    options: argparse.Namespace,
    folder: Path,
) -> None:
    preprocessing = bundle.manifest.preprocessing
    pixels = _saved(folder / "evaluation.npy", pixels_of(evaluation, preprocessing, options.crop))
    golden = _saved(folder / "golden.npy", read_golden_vectors(bundle, "fp32").pixels)
    answered = {c.name: answers(c, golden, pixels, folder / "logits.npy") for c in candidates}
    baseline = answered[candidates[0].name].probabilities
    labels = np.array([image.index for image in evaluation.images], np.intp)
    qualities = {name: quality(baseline, found.probabilities, labels) for name, found in answered.items()}
    _show(report.quality_table(qualities, {c.name: size(c) for c in candidates}))
    rounds = -(-options.runs // TURN)
    seconds = latencies(candidates, golden, rounds)
    _show(report.speed_table(seconds, {name: found.memory for name, found in answered.items()}))
    _show(report.verdict(seconds, [name for name in answered if " int8" in name]))
    images = image_set(evaluation.name, (photo.sha256 for photo in evaluation.photos))
    kinds = processors(Path("/proc/cpuinfo").read_text())
    machine = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
    _show(
        f"{described_images(images)}, crop `{options.crop}`; {rounds * TURN} inferences each, in turn, on"
        f" {machine}; {report.versions()}."
    )


def _saved(path: Path, pixels: NDArray[np.uint8]) -> Path:
    np.save(path, pixels)
    return path


def _show(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines", description=__doc__)
    parser.add_argument("calibration", type=Path, metavar="CALIBRATION")
    parser.add_argument("evaluation", type=Path, metavar="EVALUATION", help="one folder per class")
    parser.add_argument("--crop", type=Crop, default=Crop.NONE, help="of EVALUATION: bundle or none (none)")
    parser.add_argument(
        "--representative", type=int, default=500, help="photos to calibrate on (%(default)s)"
    )
    parser.add_argument("--apart", type=int, default=100, help="others, to choose a method by (%(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="inferences per candidate (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
