"""The commands that need no packages but the service's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.bundle.folder import load_bundle, verify
from service.bundle.manifest import SIGNATURE, comparison_with, reference_evaluation
from tests.colours import LABELS_OF, MEAN, STD, write_photos
from tests.signed import make_key_pair

ROOT = Path(__file__).parents[3]
# The modules of packages that are in requirements/build.txt, but not in serve.txt.
ABSENT = (
    *("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "ai_edge_quantizer", "h5py"),
    "matplotlib",
)
PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT}))  # Importing one of them raises ModuleNotFoundError.
from build.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def build(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def run_checked(*arguments: str | Path) -> str:
    """Run a command that must succeed; return its standard output."""
    result = build(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def imported(colour_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    labels, path = folder / "labels.txt", folder / "theirs"
    labels.write_text("\n".join(LABELS_OF))
    files = [f"fp32={colour_models / 'normalized.tflite'}", colour_models / "normalized-int8.tflite"]
    scaling = ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
    run_checked("import", *files, "--labels", labels, "--output", "logits", *scaling, "--out", path)
    return path


def test_import_evaluate_subset_and_sign_work(imported: Path, tmp_path: Path) -> None:
    photos, smaller = tmp_path / "photos", tmp_path / "smaller"
    write_photos(photos, 2)
    assert "\nReference: 10 images of photos (SHA-256 " in run_checked(
        "evaluate", imported, "--evaluation", photos
    )
    run_checked("evaluate", imported, "--evaluation", photos, "--reference")
    run_checked("subset", imported, "--variants", "normalized-int8", "--out", smaller)
    run_checked("sign", smaller, "--key", make_key_pair(tmp_path).private)
    assert (smaller / SIGNATURE).is_file()
    bundle = load_bundle(smaller)
    verify(bundle)
    evaluation = reference_evaluation(bundle.variant("normalized-int8").evaluations)
    assert evaluation is not None
    assert evaluation.top1.count == 2 * len(LABELS_OF)
    assert comparison_with(evaluation, "fp32") is not None
    made_with = bundle.variant("normalized-int8").provenance.tools
    assert made_with.keys() == {"python", "ai-edge-litert", "pillow", "simplejpeg"}


def test_images_seen_by_an_imported_model_are_not_evaluated_on(colour_models: Path, tmp_path: Path) -> None:
    photos, labels, path = tmp_path / "photos", tmp_path / "labels.txt", tmp_path / "theirs"
    write_photos(photos, 1)
    labels.write_text("\n".join(LABELS_OF))
    options = ["--labels", labels, "--output", "logits", "--seen", photos, "--out", path]
    run_checked("import", colour_models / "ptq.tflite", *options)
    result = build("evaluate", path, "--evaluation", photos)
    assert result.returncode == 2
    assert "5 of the 5 images" in result.stderr
    refused = build("evaluate", path, "--evaluation", photos, "--reference", "--allow-seen")
    assert refused.stderr == (
        "edgewise: --reference doesn't accept images that were trained on; leave out --allow-seen\n"
    )


def test_report_tabulates_devices() -> None:
    reports = (ROOT / "docs" / "devices").glob("*.json")
    assert run_checked("report", "--devices", *reports).startswith("| device")


def test_report_names_matplotlib_if_it_is_missing(imported: Path) -> None:
    result = build("report", imported, "--runs", "10")
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("edgewise: matplotlib")
    assert last.endswith("is missing; run it with `make build` or with .venv/bin/python")
