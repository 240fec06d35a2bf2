from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.errors import BundleError
from service.inference.classifier import Classifier
from service.measuring.throughput import measure_throughput, worker_counts
from tests.colours import altered


@pytest.mark.parametrize(
    ("maximum", "counts"),
    [
        (1, [1]),
        (2, [1, 2]),
        (4, [1, 2, 3, 4]),
        (6, [1, 2, 3, 4, 6]),
        (8, [1, 2, 3, 4, 8]),
        (64, [1, 2, 3, 4, 8, 16, 32, 64]),
    ],
)
def test_worker_counts_go_up_to_the_maximum(maximum: int, counts: list[int]) -> None:
    assert worker_counts(maximum) == counts


@pytest.mark.parametrize("workers", [1, 3])
def test_every_worker_works(colours: Bundle, workers: int) -> None:
    first = Classifier(colours, "ptq")
    classifiers = [first, *(first.twin() for _ in range(workers - 1))]
    # Even in 0 seconds each worker does ten, and one more before.
    done = measure_throughput(classifiers, seconds=0)
    assert done.inferences == 11 * workers
    assert done.per_second > 0
    assert measure_throughput(classifiers, seconds=0.05).inferences > done.inferences


def test_missing_golden_vectors_are_reported(colours: Bundle, tmp_path: Path) -> None:
    bundle = altered(colours, tmp_path / "bundle")
    classifier = Classifier(bundle, "ptq")
    (bundle.path / "golden.npz").unlink()
    with pytest.raises(BundleError, match="golden"):
        measure_throughput([classifier], seconds=0)
