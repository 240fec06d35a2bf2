"""Build a bundle from one's own photos with the default weights, and resume the build after a kill."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from build.photos.splits import split_folder
from service.bundle.folder import Bundle, load_bundle, verify
from service.inference.classifier import Classifier
from tests.crops import write_crops
from tests.system.processes import ROOT, environment, wait_for

RECIPE = """
name = "trained"
weights = "int8-per-channel"
activations = "int8"
representative_images = 20

[training]
epochs = 1
learning_rate = 4e-6
"""


def test_a_killed_build_resumes_to_a_bundle_of_ones_own_classes(
    photos: dict[str, Path], default_bundle: Bundle, tmp_path: Path
) -> None:
    data, run, out, recipe = (tmp_path / name for name in ("shop", "run", "made/shop", "trained.toml"))
    write_crops(data, photos, seed=4, count=50)
    recipe.write_text(RECIPE)
    out.parent.mkdir()
    command = [sys.executable, "-m", "build", "all", "--data", data, "--out", out, "--run", run]
    command += ["--recipes", "fp32", recipe, "--baselines", "--runs", "10"]
    command += ["--epochs", "1", "--batch-size", "4"]

    with subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        try:
            checkpoint = run / "train" / "checkpoints" / "checkpoint"
            wait_for(lambda: first.poll() is not None or checkpoint.exists(), seconds=1800)
        finally:
            first.kill()
    assert first.returncode == -9  # It had not finished before the kill.
    assert list(out.parent.iterdir()) == []
    assert not (run / "train" / "training.json").exists()

    second = subprocess.run(  # noqa: S603
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert second.returncode == 0, second.stderr
    assert f"resuming from {run}/train/checkpoints/ckpt-25" in second.stdout
    assert [path.name for path in out.parent.iterdir()] == ["shop"]

    bundle = load_bundle(out)
    verify(bundle)
    assert bundle.labels == ("cat", "coffee", "flower", "temple")
    assert list(bundle.manifest.variants) == ["fp32", "trained"]
    assert bundle.manifest.default_variant == "trained"
    splits = split_folder(data, bundle.manifest.preprocessing)
    validation_photos = len(splits.val.photos)
    assert f"no temperature can be fitted on {validation_photos} validation photos" in second.stdout
    for name, variant in bundle.manifest.variants.items():
        (evaluation,) = variant.evaluations
        assert evaluation.dataset.images == len(splits.test.photos)
        assert evaluation.seen_images == 0
        assert evaluation.top1.ratio > 0.9
        classifier = Classifier(bundle, name)
        for photo in splits.test.photos[:: len(splits.test.photos) // 3]:
            ((index, probability),) = classifier.classify(photo.path.read_bytes()).top(1)
            assert (bundle.labels[index], probability > 0.3) == (photo.path.parent.name, True)

    own, trained = bundle.manifest.training, bundle.variant("trained").provenance.training
    assert own is not None
    assert own.started_from == default_bundle.path.name
    assert own.steps == len(splits.train.photos) // 4
    assert own.losses["cross_entropy_nats_after"] < own.losses["cross_entropy_nats_before"]
    assert trained is not None
    assert [images.images for images in trained.images] == [len(splits.train.photos)]

    # The last steps are the model card, the table and the picture.
    table = second.stdout[second.stdout.index("\n| ") + 1 : second.stdout.index("\n\nBold:")]
    assert table in (out / "README.md").read_text()
    assert second.stdout.splitlines()[-1] == f"Serve it with EDGEWISE_BUNDLE={out} make serve"
    with Image.open(out / "variants.png") as picture:
        assert picture.size == (1200, 540)
