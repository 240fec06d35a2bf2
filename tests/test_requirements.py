"""The pinned requirements: complete, consistent with each other and with the imports of the code."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.imports import read_imports
from tests.pins import REQUIREMENTS, pins

ROOT = Path(__file__).parent.parent
# ai-edge-litert requires it, and requirements/serve.in limits its version.
NOT_IMPORTED = {"backports-strenum"}
# In the standard library from Python 3.14 on; earlier versions import a backport.
LATER_PYTHONS = {"compression"}
# LiteRT, a package that it requires, and the one that reads its file format.
LITERT_ONLY = {"ai-edge-litert", "backports-strenum", "flatbuffers"}
# The other runtime, which is never in the same environment.
OTHER_RUNTIME = "tflite-runtime"

every_environment = pytest.mark.parametrize(
    "name", ["serve", "build", "dev", "tflite", "loadtest", "compare"]
)


def pins_without_markers(name: str) -> dict[str, list[str]]:
    """The pins and their hashes: a larger environment needs some of them on more platforms."""
    return {pin.split(" ; ")[0]: hashes for pin, hashes in pins(name).items()}


def project(pin: str) -> str:
    return normalized(re.split(r"[=<>; \[]", pin)[0])


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requested(name: str) -> set[str]:
    """The projects that an .in file names, without those of the files that it includes."""
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    return {project(line) for line in lines if not line.startswith(("#", "-r "))}


@every_environment
def test_every_requirement_is_one_version_with_hashes(name: str) -> None:
    assert len(pins(name)) > 20
    assert [pin for pin in pins(name) if not re.fullmatch(r"[a-z0-9.-]+==[^ ;*]+( ; .+)?", pin)] == []
    assert [pin for pin, hashes in pins(name).items() if not hashes] == []


@every_environment
def test_the_pins_contain_all_requested_projects(name: str) -> None:
    assert requested(name) <= {project(pin) for pin in pins(name)}


@pytest.mark.parametrize(("smaller", "larger"), [("serve", "build"), ("build", "dev")])
def test_a_larger_environment_has_the_pins_of_the_smaller(smaller: str, larger: str) -> None:
    assert pins_without_markers(smaller).items() <= pins_without_markers(larger).items()


def test_the_load_test_has_the_pins_of_the_dev_environment() -> None:
    larger, smaller = pins_without_markers("dev"), pins_without_markers("loadtest")
    assert {pin for pin, hashes in smaller.items() if larger.get(pin) != hashes} == set()


def test_tflite_runtime_changes_only_the_runtime_and_numpy() -> None:
    assert requested("tflite") == requested("serve") - LITERT_ONLY | {OTHER_RUNTIME}
    served = pins("serve")
    differ = {project(pin) for pin, hashes in pins("tflite").items() if served.get(pin) != hashes}
    assert differ == {OTHER_RUNTIME, "numpy"}


def test_the_engine_comparison_has_the_pins_of_the_service() -> None:
    served = pins("serve")
    compared = {
        pin: hashes for pin, hashes in pins("compare").items() if project(pin) in map(project, served)
    }
    assert {project(pin) for pin in served} == {project(pin) for pin in compared}
    differ = {project(pin) for pin, hashes in compared.items() if served.get(pin) != hashes}
    assert differ <= {"numpy"}


def test_only_the_engine_comparison_has_other_engines() -> None:
    engines = {"nncf", "onnx", "onnxruntime", "openvino", "tf2onnx"}
    assert engines <= requested("compare")
    others = ("serve", "build", "dev", "tflite", "loadtest")
    assert engines & {project(pin) for name in others for pin in pins(name)} == set()


def test_the_service_installs_no_tensorflow() -> None:
    names = {project(pin) for pin in pins("serve")}
    assert {name for name in names if name.startswith("tensorflow") or name in ("keras", "tf-keras")} == set()


def distributions(package: str) -> set[str]:
    """The projects whose modules one of our packages imports."""
    imported = {name.split(".")[0] for names in read_imports(ROOT, package).values() for name in names}
    known = packages_distributions()
    # Setuptools, once imported, adds its copies of other projects to the path.
    installed = {project(pin) for pin in pins("dev")}
    others = {"service", "build", "loadtest", "tflite_runtime"} | LATER_PYTHONS
    found: set[str] = set()
    for module in imported - sys.stdlib_module_names - others:
        names = {normalized(distribution) for distribution in known[module]}
        found |= names & installed or names
    return found


def test_the_service_requests_exactly_what_it_imports() -> None:
    # Its module, backports, has the same name as that of an imported project.
    assert distributions("service") - {"backports-strenum"} == requested("serve") - NOT_IMPORTED


def test_the_build_stage_requests_all_that_it_imports() -> None:
    assert distributions("build") <= requested("serve") | requested("build")


def test_the_load_test_requests_all_that_it_imports() -> None:
    # Locust requires gevent, so it comes with it.
    assert distributions("loadtest") - {"gevent"} == requested("loadtest")


def test_the_versions_of_python_agree() -> None:
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert lowest == ">=3.11"
    assert "--python-version 3.11" in (ROOT / "Makefile").read_text()
    assert "\noldest=11\n" in (REQUIREMENTS / "install").read_text()
    assert "Python 3.11 or newer" in (ROOT / "README.md").read_text()
