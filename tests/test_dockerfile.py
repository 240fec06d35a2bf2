"""The Dockerfile, the bake file and .dockerignore agree with each other and with the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build.commands.options.shared import DEFAULT_WEIGHTS
from service import VERSION

ROOT = Path(__file__).parent.parent
# With each instruction on one line.
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
BAKE = json.loads((ROOT / "docker-bake.json").read_text())
# The arguments that the builder sets.
AUTOMATIC = {"TARGETARCH"}
HADOLINT = (
    shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    or ""
)


def arguments() -> dict[str, str | None]:
    """The build arguments with their defaults."""
    declared = re.findall(r"^ARG (\w+)(?:=(.*))?$", DOCKERFILE, re.MULTILINE)
    return {name: default for name, default in reversed(declared)}  # noqa: C416 (the first one counts)


def test_the_image_version_is_the_service_version() -> None:
    assert arguments()["VERSION"] == BAKE["variable"]["VERSION"]["default"] == VERSION


def test_the_bake_file_sets_only_arguments_of_the_dockerfile() -> None:
    for target in BAKE["target"].values():
        assert set(target.get("args", {})) <= set(arguments())
    variables = set(re.findall(r"\$\{(\w+)\}", json.dumps(BAKE["target"])))
    assert variables == set(BAKE["variable"])
    assert BAKE["variable"]["VARIANTS"]["default"] == arguments()["VARIANTS"]
    assert set(BAKE["group"]["default"]["targets"]) == set(BAKE["target"]) - {"build"}


def test_the_last_stage_is_the_service_and_the_build_stage_a_target() -> None:
    stages = re.findall(r"^FROM (?:--platform=\S+ )?\S+(?: AS (\w+))?$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == ""
    assert BAKE["target"]["build"]["target"] in stages


def test_the_build_stage_copies_what_it_reads() -> None:
    stage = DOCKERFILE.partition(" AS build\n")[2].partition("\nFROM ")[0]
    copied = set(re.findall(r"^COPY (\S+) /app/\1$", stage, re.MULTILINE))
    assert copied == {"service", "build", str(DEFAULT_WEIGHTS.relative_to(ROOT))}
    assert "--requirement /requirements/build.txt" in stage


def test_the_build_stage_does_not_run_files_of_the_folder_that_it_runs_in(tmp_path: Path) -> None:
    stage = DOCKERFILE.partition(" AS build\n")[2].partition("\nFROM ")[0]
    (variables,) = re.findall(r"^ENV (.*)$", stage, re.MULTILINE)
    environment = dict(variable.split("=", 1) for variable in variables.split())
    assert environment["PYTHONPATH"].startswith("/app:")
    (tmp_path / "argparse.py").write_text("raise SystemExit('this is not for you')")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--help"],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_copied_files_exist_and_are_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        (arguments()[source.strip("${}")] or "") if "$" in source else source
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {name if name.startswith("requirements") else name.split("/")[0] for name in copied} == {
        line.removeprefix("!") for line in ignored if line.startswith("!")
    }


def test_the_document_lists_every_argument() -> None:
    documented = re.findall(
        r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "containers.md").read_text(), re.MULTILINE
    )
    assert set(documented) == set(arguments()) - AUTOMATIC


def test_every_dockerfile_is_linted() -> None:
    (line,) = re.findall(r"^\t@\.venv/bin/hadolint (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    # Hidden folders are left out: environments in them may contain Dockerfiles.
    found = {path.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/Dockerfile")} | {Path("Dockerfile")}
    assert {Path(name) for name in line.split()} == found


@pytest.mark.skipif(not HADOLINT, reason="hadolint is absent")
@pytest.mark.parametrize("dockerfile", ["Dockerfile", "k8s/loadtest/Dockerfile"])
def test_hadolint_finds_no_problems(dockerfile: str) -> None:
    command = [HADOLINT, dockerfile]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert (result.returncode, result.stdout) == (0, "")
