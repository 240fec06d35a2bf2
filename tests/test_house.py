"""What the repository contains, and what it must not: the default bundle, labels, licences, ignored files."""

import json
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINARY = {".jpg", ".npz", ".png", ".tflite", ".zst"}
MAX_MODELS_BYTES = 75_000_000
# The package index is configured on each machine, not in the project.
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.|anaconda\.|--(extra-)?index-url|--find-links")
# A folder outside the repository that only some machines have.
OUTSIDE = re.compile(r"\.\./shared")


def git(*arguments: str) -> list[str]:
    program = shutil.which("git")
    if program is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    # Only the project's own ignore files count.
    command = [program, "-c", "core.excludesFile=/dev/null", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode in (0, 1), result.stderr
    return result.stdout.splitlines()


def test_no_file_names_a_package_registry() -> None:
    tracked = [ROOT / name for name in git("ls-files")]
    texts = [path for path in tracked if path.suffix not in BINARY and path.is_file()]
    named = {path.name for path in texts if REGISTRY.search(path.read_text("utf-8"))}
    assert named - {Path(__file__).name} == set()


def test_no_document_names_a_path_outside_the_repository() -> None:
    texts = [
        ROOT / name for name in git("ls-files", "docs", "models", "*.md") if Path(name).suffix not in BINARY
    ]
    assert [path.name for path in texts if OUTSIDE.search(path.read_text("utf-8"))] == []


def test_no_ignore_pattern_swallows_source_or_the_default_bundle() -> None:
    files = [
        "build/network/model.py",
        "build/recipes/ptq.toml",
        "build/lib/x.py",
        "service/x.py",
        "tests/data/x.jpg",
    ]
    bundle = ["models/imagenet-1k/ptq.tflite", "models/imagenet-1k/manifest.json"]
    assert git("check-ignore", "--no-index", *files, *bundle) == []
    made = ["models/mine/fp32.tflite", ".venv/bin/python", ".venv-serve/installed", "runs/a/log.csv"]
    assert git("check-ignore", "--no-index", *made) == made


def test_all_files_of_the_default_bundle_are_committed() -> None:
    bundle = ROOT / "models" / "imagenet-1k"
    manifest = json.loads((bundle / "manifest.json").read_text())
    stored = [variant.get("wire", variant)["file"] for variant in manifest["variants"].values()]
    files = {"manifest.json", *manifest["files"], *stored}
    assert {Path(name).name for name in git("ls-files", "models/imagenet-1k")} == files


def test_the_committed_models_stay_small() -> None:
    sizes = [(ROOT / name).stat().st_size for name in git("ls-files", "models")]
    assert 0 < sum(sizes) < MAX_MODELS_BYTES


def test_labels_and_class_ids_are_a_thousand_lines_each() -> None:
    labels = (ROOT / "build/imagenet/labels.txt").read_text().splitlines()
    class_ids = (ROOT / "build/imagenet/class_ids.txt").read_text().splitlines()
    assert len(labels) == len(class_ids) == 1000
    assert all(re.fullmatch(r"n\d{8}", class_id) for class_id in class_ids)
    # Keras orders the classes by their sorted ids.
    assert class_ids == sorted(set(class_ids))
    assert dict(zip(class_ids, labels, strict=True))["n02123045"] == "tabby, tabby cat"


def test_labels_agree_with_the_folders_of_real_photos(shared: Path) -> None:
    folder = shared / "images" / "imagenet-calibration"
    class_ids = (ROOT / "build/imagenet/class_ids.txt").read_text().splitlines()
    expected = [f"{index:04d}_{class_id}" for index, class_id in enumerate(class_ids)]
    assert sorted(path.name for path in folder.iterdir()) == expected


def test_the_licence_and_the_notices_exist() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    assert all(
        name in notice for name in ("Keras", "WordNet", "ImageNet", "Grocery Store Dataset", "Chelsea")
    )


def test_pytest_leaves_out_no_folder_of_tests(request: pytest.FixtureRequest) -> None:
    # pytest leaves out the folders that norecursedirs names, which includes `build` by default.
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    left_out = request.config.getini("norecursedirs")
    assert [name for name in folders for pattern in left_out if fnmatch(name, pattern)] == []
